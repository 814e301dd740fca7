"""Encoded items of one signal, put together to OTLP export requests.

Source: opentelemetry/proto/collector/*/v1/*_service.proto; the three signals have the same shape:
a request holds resources, a resource holds scopes, a scope holds items.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .anyvalue import attributes, utf8
from .steps import TICKS, Steps
from .wire import LEN, Fields, fields, message_field, sized, tag, varint

_FIRST: Final = tag(1, LEN)
_SECOND: Final = tag(2, LEN)
_SCHEMA_URL: Final = tag(3, LEN)
_RESOURCE_ATTRIBUTE: Final = tag(1, LEN)
_SCOPE_ATTRIBUTE: Final = tag(3, LEN)
# Resources and scopes of a process are few; this only bounds the memory.
_LARGEST_CACHE: Final = 1024


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """The resource and the scope of items, encoded; compared by identity."""

    resource: bytes  # field `resource`
    resource_end: bytes  # field `schema_url` of the resource
    scope: bytes  # field `scope`
    scope_end: bytes  # field `schema_url` of the scope


Encoded = tuple[Group, bytes]


class Groups:
    """The groups of a process, encoded once each."""

    def __init__(self, replaced: Mapping[str, str]) -> None:
        """Prepare; `replaced` attributes take the place of those of each resource."""
        self._replaced = dict(replaced)
        # By identity: the hash of a resource costs more than a span. The objects are kept, so
        # that no others can get their identities.
        self._known: dict[tuple[int, int], tuple[Any, Any, Group]] = {}
        self._equal: dict[tuple[bytes, bytes, bytes, bytes], Group] = {}

    def get(self, resource: Any, scope: Any) -> Group:
        """Return the group of a `Resource` and an `InstrumentationScope` (None: unnamed)."""
        key = (id(resource), id(scope))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _LARGEST_CACHE:
                self._known.clear()
                self._equal.clear()
            group = encode_group(resource, scope, self._replaced)
            parts = (group.resource, group.resource_end, group.scope, group.scope_end)
            group = self._equal.setdefault(parts, group)
            found = self._known[key] = (resource, scope, group)
        return found[2]


def encode_group(resource: Any, scope: Any, replaced: Mapping[str, str] | None = None) -> Group:
    """Encode a `Resource` and an `InstrumentationScope` (None: unnamed).

    `replaced` attributes take the place of the resource's.
    """
    found = {**resource.attributes, **replaced} if replaced else resource.attributes
    body = b"".join(attributes(_RESOURCE_ATTRIBUTE, found, Steps()))
    return Group(
        _FIRST + sized(body),
        _text(_SCHEMA_URL, resource.schema_url),
        _FIRST + sized(_scope(scope)),
        _text(_SCHEMA_URL, scope.schema_url if scope is not None else ""),
    )


def encode_request(items: Iterable[Encoded]) -> bytes:
    """Build one export request: items of one resource and scope are grouped, in order."""
    resources: dict[tuple[bytes, bytes], dict[Group, list[bytes]]] = {}
    steps = Steps()
    last: Group | None = None
    parts: list[bytes] = []
    for number, (group, data) in enumerate(items):
        if group is not last:
            last = group
            scopes = resources.setdefault((group.resource, group.resource_end), {})
            parts = scopes.setdefault(group, [])
            if not parts:
                parts.append(group.scope)
        parts += (_SECOND, varint(len(data)), data)
        if not number % TICKS:
            steps.pause()
    request: list[bytes] = []
    for (resource, resource_end), scopes in resources.items():
        body = [resource]
        for group, parts in scopes.items():
            parts.append(group.scope_end)
            scope = b"".join(parts)
            body += (_SECOND, varint(len(scope)), scope)
            steps.pause()
        body.append(resource_end)
        data = b"".join(body)
        request += (_FIRST, varint(len(data)), data)
        steps.pause()
    return b"".join(request)


def decode_request(request: bytes) -> list[Encoded]:
    """Take an export request apart: the inverse of `encode_request`.

    Raises ValueError or IndexError for bytes that are not a request.
    """
    steps = Steps()
    items: list[Encoded] = []
    for resource in _messages(fields(request, steps), 1):
        found = fields(resource, steps)
        head = _FIRST + sized(message_field(found, 1))
        end = _raw_text(_SCHEMA_URL, found)
        for scope in _messages(found, 2):
            inner = fields(scope, steps)
            group = Group(
                head, end, _FIRST + sized(message_field(inner, 1)), _raw_text(_SCHEMA_URL, inner)
            )
            items += [(group, item) for item in steps.over(_messages(inner, 2))]
    return items


def _messages(found: Fields, number: int) -> list[bytes]:
    return [value for value in found.get(number, []) if isinstance(value, bytes)]


def _raw_text(tag: bytes, found: Fields) -> bytes:
    value = message_field(found, 3)
    return tag + sized(value) if value else b""


def _scope(scope: Any) -> bytes:
    if scope is None:
        return b""
    parts = [_text(_FIRST, scope.name), _text(_SECOND, scope.version)]
    parts += attributes(_SCOPE_ATTRIBUTE, scope.attributes, Steps())
    return b"".join(parts)


def _text(field: bytes, value: str | None) -> bytes:
    return field + sized(utf8(value)) if value else b""
