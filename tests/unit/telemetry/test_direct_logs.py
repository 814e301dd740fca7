"""Records that are encoded without the SDK's objects equal those that the SDK makes."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import LoggerProvider, NoOpLogger, SeverityNumber
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk._logs import LoggerProvider as SdkLoggerProvider
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
    use_span,
)

from chatscope import sdk_values
from chatscope.direct_logs import DirectLoggerProvider
from chatscope.otlp import (
    Delivery,
    OtlpLogRecordProcessor,
    Signal,
    load_endpoints,
)
from chatscope.otlp.values import PlainAttributes, plain

_RESOURCE = Resource({"service.name": "test"})
_SPAN = NonRecordingSpan(SpanContext(2**127, 2**63, False, TraceFlags(1)))
_VALUES = st.one_of(
    st.text(max_size=200),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.floats(allow_nan=False),
    st.none(),
    st.binary(max_size=5),
    st.lists(st.one_of(st.booleans(), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2),
)
_SHORT: st.SearchStrategy[str | int] = st.one_of(st.text(), st.integers())
_FIELDS = st.fixed_dictionaries(
    {
        "observed_timestamp": st.integers(1, 2**63),
        "body": st.one_of(st.text(max_size=50), _VALUES),
        "attributes": st.one_of(
            st.none(),
            st.dictionaries(st.text(min_size=1, max_size=9), _VALUES, max_size=6),
            st.dictionaries(st.text(min_size=1, max_size=2), _SHORT, max_size=3).map(plain),
        ),
        "severity_number": st.one_of(st.none(), st.sampled_from(SeverityNumber)),
        "severity_text": st.one_of(st.none(), st.text(max_size=5)),
        "context": st.one_of(st.none(), st.just(set_span_in_context(_SPAN))),
        "event_name": st.one_of(st.none(), st.text(max_size=5)),
        "timestamp": st.one_of(st.none(), st.integers(1, 2**63)),
    }
)


def _decoded(data: bytes) -> LogRecord:
    record = LogRecord()
    record.ParseFromString(data)
    return record


class _Captured:
    """A delivery that keeps encoded log records."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.items: list[bytes] = []
        delivery = Delivery(load_endpoints({}, endpoint="http://127.0.0.1:9"))
        self.statistics = delivery.pipelines[Signal.LOGS].statistics
        monkeypatch.setattr(
            delivery.pipelines[Signal.LOGS], "put", lambda _, data: self.items.append(data)
        )
        self.processor = OtlpLogRecordProcessor(delivery)

    def emit(self, provider: LoggerProvider, **fields: Any) -> LogRecord:
        provider.get_logger("test").emit(**fields)
        return _decoded(self.items.pop())


@pytest.fixture(scope="module")
def monkeypatch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def captured(monkeypatch: pytest.MonkeyPatch) -> _Captured:
    sdk_values.install()
    return _Captured(monkeypatch)


def _ours(captured: _Captured) -> DirectLoggerProvider:
    provider = DirectLoggerProvider(_RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(captured.processor)
    return provider


@given(_FIELDS)
@settings(deadline=None, max_examples=100)
def test_record_equals_that_of_the_sdk(captured: _Captured, fields: dict[str, Any]) -> None:
    sdk = SdkLoggerProvider(_RESOURCE, shutdown_on_exit=False)
    sdk.add_log_record_processor(captured.processor)
    assert captured.emit(_ours(captured), **fields) == captured.emit(sdk, **fields)


def test_record_of_plain_values_skips_the_sdk(
    captured: _Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = _ours(captured)
    with monkeypatch.context() as patch:
        patch.setattr(captured.processor, "on_emit", None)
        with use_span(_SPAN):
            record = captured.emit(provider, body="order", attributes={"count": 1})
    assert (record.body.string_value, record.trace_id[0]) == ("order", 128)
    assert captured.statistics.not_encodable == captured.statistics.fallbacks == 0


def test_further_processor_gets_each_record(captured: _Captured) -> None:
    provider, memory = _ours(captured), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    logger = provider.get_logger("test")
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    logger.emit(body="order")
    assert [each.log_record.body for each in memory.get_finished_logs()] == ["order"]
    assert _decoded(captured.items.pop()).body.string_value == "order"


def test_limit_of_attributes_holds(captured: _Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
        record = captured.emit(_ours(captured), body="order", attributes={"name": "abcdef"})
    assert record.attributes[0].value.string_value == "abc"


def test_field_that_cannot_be_encoded_directly_falls_back(captured: _Captured) -> None:
    before = captured.statistics.not_encodable
    _ours(captured).get_logger("test").emit(body="order", timestamp=-1)
    assert captured.statistics.not_encodable == before + 1


def test_disabled_sdk_has_loggers_that_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("OTEL_SDK_DISABLED", "true")
        provider = DirectLoggerProvider(_RESOURCE, shutdown_on_exit=False)
    assert isinstance(provider.get_logger("test"), NoOpLogger)


@pytest.mark.parametrize(
    "value", ["a" * 2000, "\ud800", 2**64, [1], object()], ids=["long", "half", "large", "list", ""]
)
def test_attributes_that_need_a_conversion_are_not_plain(value: Any) -> None:
    assert type(plain({"a": "b"})) is PlainAttributes
    assert type(plain({"a": value})) is dict
