"""The context of the client, by whichever propagator is configured."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.context import Context, set_value
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chatscope.propagation import extract_parent

_PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class _Own(TextMapPropagator):
    """Reads a header of its own; with `always` it sets a value for any request instead."""

    def __init__(self, *, always: bool = False) -> None:
        self._always = always

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Context:
        found = "always" if self._always else getter.get(carrier, "x-own")
        return set_value("own", found, context) if found else context

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        raise NotImplementedError

    @property
    def fields(self) -> set[str]:
        return set()


@pytest.fixture(autouse=True)
def default() -> Iterator[TextMapPropagator]:
    before = get_global_textmap()
    yield before
    set_global_textmap(before)


def test_headers_of_the_client_are_read() -> None:
    context = extract_parent({b"traceparent": _PARENT, b"baggage": b"shop=blue"})
    assert get_current_span(context).get_span_context().span_id == 0xB7AD6B7169203331
    assert baggage.get_baggage("shop", context) == "blue"
    assert baggage.get_baggage("shop", extract_parent({b"baggage": b"shop=red"})) == "red"


def test_default_propagator_is_not_asked_without_its_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert extract_parent({b"host": b"a"}) == Context()
    monkeypatch.setattr(TraceContextTextMapPropagator, "extract", None)
    assert extract_parent({b"host": b"a", b"tracestate": b"a=1"}) == Context()


@pytest.mark.parametrize("alone", [True, False])
def test_other_propagators_are_asked_for_each_request(
    default: TextMapPropagator, *, alone: bool
) -> None:
    extract_parent({})
    set_global_textmap(_Own() if alone else CompositePropagator([default, _Own()]))
    assert extract_parent({b"x-own": b"1"})["own"] == ["1"]
    assert extract_parent({}) == Context()


def test_propagator_that_needs_no_header_is_asked(default: TextMapPropagator) -> None:
    set_global_textmap(CompositePropagator([default, _Own(always=True)]))
    assert "own" in extract_parent({})
