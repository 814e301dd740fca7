"""Texts on spans, for services that capture content there."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import requests

from chatscope.cli.errors import CommandError

_TIMEOUT_SECONDS: Final = 60.0
_SPAN_ID_BYTES: Final = 8


class Tempo:
    """A Tempo, by its URL."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.headers.update({**headers, "accept": "application/json"})

    def texts(self, trace_id: str, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return some attributes of each span that has one, by the span's ID.

        Nothing for a trace that is not stored any more. Raise CommandError.
        """
        wanted = frozenset(names)
        found = {}
        for span in _spans(self._trace(trace_id)):
            values = {
                pair["key"]: str(pair["value"]["stringValue"])
                for pair in span.get("attributes") or ()
                if pair.get("key") in wanted and "stringValue" in pair.get("value", {})
            }
            if values:
                found[_hex(span.get("spanId", ""))] = values
        return found

    def _trace(self, trace_id: str) -> dict[str, Any]:
        url = f"{self._url}/api/v2/traces/{trace_id}"
        try:
            response = self._session.get(url, timeout=_TIMEOUT_SECONDS)
            if response.status_code == HTTPStatus.NOT_FOUND:
                return {}
            if not response.ok:
                raise CommandError(f"Tempo responded with {response.status_code} to {url}")
            found: dict[str, Any] = response.json()
        except requests.RequestException as error:
            raise CommandError(f"Tempo at {self._url} is unreachable: {error}") from None
        return found.get("trace") or {}


def _spans(trace: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for resource in trace.get("resourceSpans") or ():
        for scope in resource.get("scopeSpans") or ():
            yield from scope.get("spans") or ()


def _hex(span_id: str) -> str:
    """Return an ID in hex digits: protobuf's JSON has bytes in base64, OTLP's in hex digits."""
    try:
        decoded = base64.b64decode(span_id, validate=True)
    except binascii.Error:
        return span_id
    return decoded.hex() if len(decoded) == _SPAN_ID_BYTES else span_id
