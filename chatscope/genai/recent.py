"""Responses of the last while, found by their IDs when they are rated."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry.trace import SpanContext
from opentelemetry.util.types import AttributeValue

from chatscope.names import GEN_AI_RESPONSE_ID
from chatscope.tracing import trace_id_of

MAX_RESPONSES: Final = 4_096
# Of one attribute. Longer values are not kept, so that the memory has a bound (some MB).
_MAX_CHARACTERS: Final = 256


@dataclass(frozen=True)
class RecentResponse:
    """A response that has ended: its span, and what identifies it."""

    span: SpanContext
    attributes: Mapping[str, AttributeValue]


class RecentResponses:
    """The newest responses of this process."""

    def __init__(self, maximum: int = MAX_RESPONSES) -> None:
        self._maximum = maximum
        self._lock = threading.Lock()
        self._by_id: OrderedDict[str, RecentResponse] = OrderedDict()

    def add(self, response: RecentResponse) -> None:
        """Remember a response by its own ID and by its trace ID; forget the oldest ones.

        Of several responses in one trace, the last one is found by the trace ID.
        """
        kept = {k: v for k, v in response.attributes.items() if len(str(v)) <= _MAX_CHARACTERS}
        response = RecentResponse(response.span, kept)
        ids = (kept.get(GEN_AI_RESPONSE_ID), trace_id_of(response.span))
        with self._lock:
            for each in ids:
                if each and isinstance(each, str):
                    self._by_id[each] = response
                    self._by_id.move_to_end(each)
            while len(self._by_id) > 2 * self._maximum:
                self._by_id.popitem(last=False)

    def find(self, *ids: str | None) -> RecentResponse | None:
        """Return the response with the first of the IDs that is known."""
        with self._lock:
            found = (self._by_id.get(each) for each in ids if each)
            return next((response for response in found if response), None)
