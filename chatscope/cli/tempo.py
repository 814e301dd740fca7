"""Traces of Tempo."""

import re
from collections.abc import Iterable
from typing import Final

from chatscope.cli.backend import Backend, Headers, known_form
from chatscope.cli.errors import CommandError
from chatscope.cli.loki import quoted
from chatscope.cli.spans import Span, spans
from chatscope.names import GEN_AI_RESPONSE_ID

_TRACE_ID: Final = re.compile("[0-9a-fA-F]{1,32}")
_ZEROS: Final = re.compile("0+")


class Tempo:
    """A Tempo, by its URL."""

    def __init__(self, url: str, headers: Headers) -> None:
        self.url = url
        self._backend = Backend("Tempo", url, {**headers, "accept": "application/json"})

    def trace(self, trace_id: str) -> list[Span]:
        """Return the spans of a trace, the earliest first; none of one that is not stored.

        Raise CommandError.
        """
        found = self._backend.get(f"/api/v2/traces/{trace_id}", optional=True)
        with known_form("Tempo"):
            return spans(found or {})

    def texts(self, trace_id: str, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return some texts of each span that has one, by the span's ID. Raise CommandError."""
        wanted = frozenset(names)
        found = {}
        for span in self.trace(trace_id):
            values = {
                name: value
                for name, value in span.attributes.items()
                if name in wanted and isinstance(value, str)
            }
            if values:
                found[span.span_id] = values
        return found

    def trace_of_response(self, response_id: str) -> str | None:
        """Return the ID of the trace with a response; None if there is none. Raise CommandError."""
        query = f"{{ span.{GEN_AI_RESPONSE_ID} = {quoted(response_id)} }}"
        found = self._backend.get("/api/search", {"q": query, "limit": 1})
        with known_form("Tempo"):
            traces = found.get("traces") or ()
            return str(traces[0]["traceID"]) if traces else None


def as_trace_id(text: str) -> str | None:
    """Return a trace ID with all its 32 digits; None for another text, such as a response's ID.

    Tempo prints IDs without the zeros at their beginning.
    """
    if not _TRACE_ID.fullmatch(text) or _ZEROS.fullmatch(text):
        return None
    return text.lower().rjust(32, "0")


def found_trace(tempo: Tempo, text: str) -> str:
    """Return the trace ID that a trace's or a response's ID leads to. Raise CommandError."""
    trace_id = as_trace_id(text) or tempo.trace_of_response(text)
    if trace_id is None:
        raise CommandError(
            f"{text!r} is neither a trace ID (32 hex digits) nor the ID of a response that Tempo "
            f"at {tempo.url} has"
        )
    return trace_id.rjust(32, "0")
