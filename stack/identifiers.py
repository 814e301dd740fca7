"""Generates the Collector's cleaning of identifiers, which links in Grafana put into queries.

Grafana inserts a service name into LogQL, TraceQL or PromQL as it is: it has no format that is safe
in quotes. So no stored identifier has a character that ends a quoted text.
"""

import re
from collections.abc import Iterator
from typing import Final

from chatscope.names import (
    CONNECTION_ID,
    ERROR_TYPE,
    GEN_AI_CONVERSATION_ID,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    HTTP_ROUTE,
    SERVER_ADDRESS,
    SESSION_ID,
    USER_ID,
)
from stack.ottl import quoted, yaml_item

# Attributes that links and variables of dashboards insert, and those that become names in the
# service graph.
IDENTIFIERS: Final = (
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment.name",
    GEN_AI_REQUEST_MODEL,
    GEN_AI_PROVIDER_NAME,
    SERVER_ADDRESS,
    "peer.service",
    HTTP_ROUTE,
    ERROR_TYPE,
    CONNECTION_ID,
    GEN_AI_CONVERSATION_ID,
    SESSION_ID,
    USER_ID,
)
# Ends a text in quotes, or begins an escape in it, in any of the three languages; or is invisible.
UNSAFE: Final = r'["`\\\x00-\x1f\x7f-\x9f]'
REPLACEMENT: Final = "_"
MAX_BYTES: Final = 256
# Loki replaces all these characters in names by underscores. Tempo and Grafana know the exact names
# of a span's attributes only, which are found faster.
_SEPARATOR: Final = r"[\W_]+"
# A link has it without quotes. Of a log record's own attributes, not that of its span.
_TRACE_ID: Final = "trace_id"
_HEAD: Final = f"""\
  # Links in Grafana put identifiers and labels into queries: they have no quotes, backslashes or
  # control characters, and at most {MAX_BYTES} bytes. Of attributes with the same name the last one
  # is kept. By stack/identifiers.py.
  transform/identifiers:
    error_mode: ignore
"""


def rendered() -> str:
    """Return the processor as YAML."""
    lines = [_HEAD]
    for signal, contexts in {
        "trace": ("resource", "span"),
        "metric": ("resource", "datapoint"),
        "log": ("resource", "scope", "log"),
    }.items():
        lines.append(f"    {signal}_statements:\n")
        for context in contexts:
            lines.append("      - statements:\n")
            lines += map(yaml_item, _statements(signal, context))
    return "".join(lines)


def _statements(signal: str, context: str) -> Iterator[str]:
    """Yield the statements for one kind of record."""
    attributes, cache = f"{context}.attributes", f"{context}.cache"
    yield f'merge_maps({cache}, {attributes}, "upsert")'
    yield f"set({attributes}, {cache})"
    if context == "datapoint":
        # All are labels.
        yield from _cleaned(attributes)
        return
    if context == "span":
        names = ", ".join(map(quoted, IDENTIFIERS))
        yield f"keep_keys({cache}, [{names}])"
        yield f'set({cache}["name"], span.name)'
    else:
        yield f"keep_matching_keys({cache}, {quoted(_pattern())})"
    yield from _cleaned(cache)
    if context == "span":
        yield f'set(span.name, {cache}["name"])'
        yield f'delete_key({cache}, "name")'
    yield f'merge_maps({attributes}, {cache}, "update")'
    if signal == "log":
        trace_id = f'{attributes}["{_TRACE_ID}"]'
        yield f'replace_pattern({trace_id}, "[^0-9A-Fa-f]", "") where {trace_id} != nil'


def _cleaned(texts: str) -> Iterator[str]:
    yield f"stringify_all({texts})"
    yield f'replace_all_patterns({texts}, "value", {quoted(UNSAFE)}, "{REPLACEMENT}")'
    yield f"truncate_all({texts}, {MAX_BYTES})"


def _pattern() -> str:
    """Return the pattern of the names of identifiers, as any separators may spell them."""
    names = (re.sub("[._]", lambda _: _SEPARATOR, name) for name in IDENTIFIERS)
    return f"^(?:{'|'.join(names)})$"


def cleaned(identifier: str) -> str:
    """Return an identifier as it is stored."""
    return re.sub(UNSAFE, REPLACEMENT, identifier)
