"""Our spans behave like those of the SDK, whatever operations are called on them."""

import copy
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
    use_span,
)

from chatscope import sdk_values
from chatscope.direct_spans import RECORD_ALL, DirectSpan, DirectTracer, DirectTracerProvider
from chatscope.otlp import Delivery, OtlpSpanProcessor, Signal, load_endpoints
from chatscope.otlp.unfinished import Unfinished
from chatscope.otlp.values import plain, register

_RESOURCE = Resource({"service.name": "test"})
_SHARED = plain({"http.request.method": "GET", "server.port": 80})
_OTHER = SpanContext(5, 6, is_remote=True, trace_state=TraceState([("a", "b")]))
_STATES = st.sampled_from([TraceState(), TraceState([("a", "b"), ("c", "d")])])
_PARENTS = st.one_of(
    st.none(),
    st.builds(
        SpanContext,
        st.integers(1, 2**128 - 1),
        st.integers(1, 2**64 - 1),
        st.booleans(),
        st.integers(0, 3).map(TraceFlags),
        _STATES,
    ),
)
_TEXTS = st.text(st.sampled_from("abc\0é\ud800"), max_size=6)
_VALUES = st.one_of(
    _TEXTS,
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.floats(allow_nan=False),
    st.none(),
    st.binary(max_size=5),
    st.lists(st.one_of(st.booleans(), _TEXTS), max_size=3),
    st.dictionaries(_TEXTS, st.integers(0, 9), max_size=2),
    st.just(object()),
)
_KEYS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["http.route", "url.path", "server.port", ""]), _TEXTS, st.just(5)
)
_PAIRS = st.dictionaries(_KEYS, _VALUES, max_size=5)
_SHORT: st.SearchStrategy[str | int] = st.one_of(_TEXTS, st.integers(0, 999))
_PLAIN = st.dictionaries(
    st.sampled_from(["http.route", "url.path", "error.type", "é"]), _SHORT, max_size=3
).map(plain)
_TIMES = st.integers(1, 2**63)
_OPERATIONS = st.one_of(
    st.tuples(st.just("set_attribute"), st.tuples(_KEYS, _VALUES)),
    st.tuples(st.just("set_attributes"), st.tuples(st.one_of(_PAIRS, _PLAIN))),
    st.tuples(st.just("update_name"), st.tuples(_TEXTS)),
    st.tuples(st.just("add_event"), st.tuples(_TEXTS, st.one_of(st.none(), _PAIRS), _TIMES)),
    st.tuples(
        st.just("record_exception"),
        st.tuples(st.builds(ValueError, _TEXTS), st.one_of(st.none(), _PAIRS), _TIMES),
    ),
    st.tuples(
        st.just("add_link"),
        st.tuples(st.sampled_from([_OTHER, INVALID_SPAN_CONTEXT]), st.one_of(st.none(), _PAIRS)),
    ),
    st.tuples(
        st.just("set_status"),
        st.one_of(
            st.tuples(st.sampled_from(StatusCode), st.one_of(st.none(), _TEXTS)),
            st.tuples(st.builds(Status, st.just(StatusCode.ERROR), _TEXTS), st.none()),
            st.tuples(st.builds(Status, st.sampled_from(StatusCode)), _TEXTS),
        ),
    ),
    st.tuples(st.just("start"), st.just(())),
    st.tuples(
        st.just("finish"),
        st.tuples(_TEXTS, st.dictionaries(st.just("new"), _SHORT).map(plain), _TIMES),
    ),
    st.tuples(st.just("end"), st.tuples(_TIMES)),
)
_LIMITS: tuple[dict[str, str], ...] = (
    {},
    {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "3", "OTEL_SPAN_EVENT_COUNT_LIMIT": "1"},
    {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0", "OTEL_SPAN_LINK_COUNT_LIMIT": "1"},
    {"OTEL_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "2"},
    {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "1"},
    {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "1"},
)


class _Counting(IdGenerator):
    def __init__(self, *, random: bool) -> None:
        self._next = count(1)
        self._random = random

    def generate_span_id(self) -> int:
        return next(self._next)

    def generate_trace_id(self) -> int:
        return next(self._next)

    def is_trace_id_random(self) -> bool:
        return self._random


class _Recorded:
    """Spans of one provider: what processors and the receiver get of them."""

    def __init__(self, provider: TracerProvider, *, delivered: bool) -> None:
        delivery = Delivery(load_endpoints({}, endpoint="http://127.0.0.1:9"))
        self.pipeline = delivery.pipelines[Signal.TRACES]
        self.delivered: list[bytes | Unfinished] = []
        self.pipeline.put = lambda _, data: self.delivered.append(data)  # type: ignore[assignment,method-assign]
        self.exported = InMemorySpanExporter()
        if delivered:
            provider.add_span_processor(OtlpSpanProcessor(delivery))
        else:
            provider.add_span_processor(SimpleSpanProcessor(self.exported))
        self.tracer = DirectTracer.of(provider, "shop", "1.2")

    def facts(self) -> Any:
        """Everything but the start times."""
        messages = []
        for data in self.delivered:
            message = SpanMessage()
            assert type(data) is bytes
            message.ParseFromString(data)
            assert message.start_time_unix_nano
            message.start_time_unix_nano = 0
            messages.append(message)
        spans = []
        for span in self.exported.get_finished_spans():
            assert type(span) is ReadableSpan
            assert span.start_time
            spans.append(
                {
                    **json.loads(_json(span)),
                    "start_time": None,
                    "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
                    "scope": span.instrumentation_scope,
                    "attributes": list((span.attributes or {}).items()),
                }
            )
        return messages, spans, self.pipeline.statistics.started


def _json(span: ReadableSpan) -> str:
    try:
        return str(span.to_json())
    except TypeError:  # bytes
        return "{}"


def _state(span: Any) -> Any:
    return (
        span.is_recording(),
        span.name,
        list(span.attributes.items()),
        [(each.name, dict(each.attributes), each.timestamp) for each in span.events],
        [(each.context, dict(each.attributes)) for each in span.links],
        (span.status.status_code, span.status.description),
        (span.dropped_attributes, span.dropped_events, span.dropped_links),
        (span.context, span.get_span_context(), span.parent, span.kind),
        (span.end_time, span.resource, span.instrumentation_scope),
    )


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what the SDK logs about wrong calls."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("opentelemetry.sdk.trace")
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _provider(kind: type[TracerProvider], *, random: bool = True) -> TracerProvider:
    return kind(
        sampler=RECORD_ALL,
        resource=_RESOURCE,
        id_generator=_Counting(random=random),
        shutdown_on_exit=False,
    )


@pytest.fixture(scope="module", autouse=True)
def _values() -> None:
    sdk_values.install()
    logging.getLogger("opentelemetry.attributes").setLevel(logging.ERROR)


def _finish(span: Any, name: str, attributes: Any, end_time: int) -> None:
    if not span.is_recording():
        return
    if type(span) is DirectSpan:
        span.finish(name, attributes, end_time)
    else:
        span.update_name(name)
        span.set_attributes(attributes)
        span.end(end_time)


@pytest.mark.parametrize("limits", _LIMITS, ids=[" ".join(each) for each in _LIMITS])
@given(
    parent=_PARENTS,
    kind=st.sampled_from([None, *SpanKind]),
    own=st.fixed_dictionaries({"url.path": _VALUES, "client.port": st.integers(0, 70_000)}),
    operations=st.lists(_OPERATIONS, max_size=8),
    delivered=st.booleans(),
    watched=st.booleans(),
    random=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_span_equals_that_of_the_sdk(
    *,
    limits: dict[str, str],
    parent: SpanContext | None,
    kind: SpanKind | None,
    own: Any,
    operations: list[tuple[str, tuple[Any, ...]]],
    delivered: bool,
    watched: bool,
    random: bool,
) -> None:
    context = set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()
    found = []
    for made in (TracerProvider, DirectTracerProvider):
        with pytest.MonkeyPatch.context() as patch, _warnings() as warnings:
            for name, value in limits.items():
                patch.setenv(name, value)
            recorded = _Recorded(_provider(made, random=random), delivered=delivered)
            tracer = recorded.tracer
            span: Any = (
                tracer.start_server_span("GET", context, _SHARED, own)
                if kind is None
                else tracer.start_span("GET", context, kind, own)
            )
            states = [_state(span)] if watched and isinstance(span, SdkSpan) else []
            for operation, arguments in operations:
                if operation == "finish":
                    _finish(span, *arguments)
                else:
                    getattr(span, operation, lambda: None)(*arguments)
                if states:
                    states.append(_state(span))
            span.end(7)
            if states:
                states.append(_state(span))
            found.append((states, recorded.facts(), warnings, span.get_span_context()))
    of_sdk, of_ours = found
    assert of_ours == of_sdk


def _started(provider: TracerProvider, context: Context | None = None) -> Span:
    tracer = DirectTracer.of(provider, "shop")
    return tracer.start_server_span("GET", context or Context(), _SHARED, {"url.path": "/"})


def test_child_of_a_span_is_made_here_too() -> None:
    provider = _provider(DirectTracerProvider)
    tracer = DirectTracer.of(provider, "shop")
    parent = tracer.start_span("parent")
    with use_span(parent):
        child = tracer.start_span("child", attributes={"reasons": ["stop"]})
        with tracer.start_as_current_span("current") as other:
            assert get_current_span() is other
    assert type(parent) is type(child) is type(other) is DirectSpan
    assert child.parent == other.parent == parent.get_span_context()
    assert other.end_time
    assert child.kind is SpanKind.INTERNAL
    assert dict(child.attributes or {}) == {"reasons": ("stop",)}


def test_tracers_of_the_provider_are_of_this_kind_for_everyone() -> None:
    provider = _provider(DirectTracerProvider)
    tracer = provider.get_tracer("shop", "1.2")
    assert type(tracer) is DirectTracer
    assert provider.get_tracer("shop", "1.2") is tracer
    attributed = provider.get_tracer("shop", None, "https://x", {"a": "b"})
    assert type(attributed) is DirectTracer
    assert attributed.scope == InstrumentationScope("shop", "", "https://x", {"a": "b"})
    # Other libraries read what the SDK's has.
    other: Any = copy.copy(tracer)
    assert other.resource is provider.resource
    assert other.sampler is provider.sampler

    @tracer.start_as_current_span("decorated")
    def failing() -> None:
        assert type(get_current_span()) is DirectSpan
        raise KeyError("a")

    with pytest.raises(KeyError):
        failing()


@pytest.mark.parametrize(
    "options",
    [{"links": [Link(_OTHER)]}, {"start_time": 5}, {"record_exception": False}],
    ids=lambda options: next(iter(options)),
)
def test_span_with_rare_options_is_one_of_the_sdk(options: dict[str, Any]) -> None:
    tracer = DirectTracer.of(_provider(DirectTracerProvider), "shop")
    span: Any = tracer.start_span("rare", attributes={"a": 1}, **options)
    assert type(span) is not DirectSpan
    assert span.attributes == {"a": 1}


def test_each_public_member_of_the_base_class_is_replaced() -> None:
    # This one adds an event, and needs nothing else.
    inherited = {"record_exception"}
    public = {name for name in dir(SdkSpan) if not name.startswith("_")}
    assert public - vars(DirectSpan).keys() == inherited


def test_span_is_one_of_the_sdk_by_its_class() -> None:
    span = _started(_provider(DirectTracerProvider))
    assert type(span) is DirectSpan
    assert isinstance(span, SdkSpan)
    assert repr(span).startswith('DirectSpan(name="GET", context=SpanContext(')
    assert json.loads(span.to_json())["name"] == "GET"
    with pytest.warns(DeprecationWarning, match="instrumentation_scope"):
        assert span.instrumentation_info is not None


def test_exception_ends_the_span_as_that_of_the_sdk() -> None:
    found = []
    for kind in (TracerProvider, DirectTracerProvider):
        provider = _provider(kind)
        recorded = _Recorded(provider, delivered=False)
        span = _started(provider)
        try:
            with span:
                raise ValueError("no such order")
        except ValueError:
            pass
        [ended] = recorded.exported.get_finished_spans()
        [event] = ended.events
        assert "Traceback" in str((event.attributes or {})["exception.stacktrace"])
        found.append((ended.status.description, event.name, [*(event.attributes or {})]))
    assert found[0] == found[1]


class _ThirdParty(SpanProcessor):
    def __init__(self) -> None:
        self.started: list[Any] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        span.set_attribute("tenant", "a")
        self.started.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


def test_unknown_processor_gets_spans_of_the_sdk() -> None:
    provider, processor = _provider(DirectTracerProvider), _ThirdParty()
    before = _started(provider)
    provider.add_span_processor(processor)
    span = _started(provider)
    span.end()
    before.end()
    assert processor.started == [span]
    assert type(span) is not DirectSpan
    assert (processor.ended[0].attributes or {})["tenant"] == "a"
    # It was added while this one was recorded.
    assert type(before) is DirectSpan
    assert type(processor.ended[1]) is ReadableSpan


def test_other_samplers_decide_about_each_span() -> None:
    provider = DirectTracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    assert type(_started(provider)) is not DirectSpan


def test_local_parent_that_is_not_sampled_is_respected() -> None:
    parent = NonRecordingSpan(SpanContext(1, 2, is_remote=False))
    context = set_span_in_context(parent, Context())
    assert not _started(_provider(DirectTracerProvider), context).is_recording()


@pytest.mark.parametrize("name", ["OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "OTEL_SDK_DISABLED"])
def test_options_of_the_sdk_are_left_to_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "true")
    assert type(_started(_provider(DirectTracerProvider))) is not DirectSpan


def test_failure_of_our_encoder_is_counted_and_the_span_delivered() -> None:
    provider = _provider(DirectTracerProvider)
    recorded = _Recorded(provider, delivered=True)
    span: Any = _started(provider)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chatscope.direct_spans.encode_plain", None)
        span.end()
    [message], _, started = recorded.facts()
    assert (message.name, started) == ("GET", 1)


def test_span_that_ends_while_it_is_changed_blocks_nobody() -> None:
    provider = _provider(DirectTracerProvider)
    recorded = _Recorded(provider, delivered=False)
    span = _started(provider)

    class Ending:
        """Ends the span when it is converted, as a finaliser may."""

    register(Ending, lambda _: span.end() or "ended")
    thread = threading.Thread(target=span.set_attribute, args=("a", Ending()), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert len(recorded.exported.get_finished_spans()) == 1


def test_threads_change_a_span_until_one_of_them_ends_it() -> None:
    provider = _provider(DirectTracerProvider)
    recorded = _Recorded(provider, delivered=False)
    span = _started(provider)
    threads, kept = 8, 100
    begin = threading.Barrier(threads)

    def change(number: int) -> None:
        begin.wait(60)
        for step in range(kept):
            span.set_attributes({f"{number}": step})
            span.add_event(f"{number}")
            span.set_attributes(plain({"http.route": "/"}))
            if step == kept // 2:
                span.end()

    running = [threading.Thread(target=change, args=(number,)) for number in range(threads)]
    with _warnings():
        for each in running:
            each.start()
        for each in running:
            each.join(60)
    [ended] = recorded.exported.get_finished_spans()
    names = [event.name for event in ended.events]
    attributes = ended.attributes or {}
    assert attributes["http.route"] == "/"
    # The span ended between the two changes of a thread at most once for each thread.
    for number in range(threads):
        steps = int(str(attributes.get(f"{number}", -1))) + 1
        assert ended.dropped_events or names.count(f"{number}") in (steps, steps - 1)
    assert len(names) + ended.dropped_events >= kept // 2
