"""What the wire cannot carry: nothing else is lost with it, and all of it is accounted for."""

import logging
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger
from opentelemetry.trace import Status, StatusCode

from chatscope import names
from chatscope.logs.bridge import Bridge
from chatscope.logs.loguru_handler import start_export
from chatscope.logs.standard import ToLoguru
from chatscope.otlp import Signal
from chatscope.otlp.values import MAX_TEXT_BYTES as LONGEST_TEXT
from chatscope.otlp.values import text
from chatscope.providers import Providers, TelemetrySettings, build_providers
from tests.receiver import Receiver

if TYPE_CHECKING:
    from loguru import Record

_HALF = "half \ud800 of it"
_SPELLED = "half \\ud800 of it"
_LARGE = 2**70
_ITSELF: dict[str, Any] = {}
_ITSELF["itself"] = _ITSELF


class _Wordless:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def providers(receiver: Receiver) -> Providers:
    return build_providers(TelemetrySettings(endpoint=receiver.endpoint))


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("plain", "plain"),
        ("nul \0 too", "nul \0 too"),
        ("ß😀", "ß😀"),
        ("\ud83d\ude00 and \ud83d", "😀 and \\ud83d"),
        ("\udce9 of a file's name", "\\udce9 of a file's name"),
    ],
)
def test_text_is_one_that_can_be_sent(found: str, wanted: str) -> None:
    assert text(found) == wanted


@pytest.mark.parametrize("character", ["x", "ß", "😀", "\ud800"])
def test_text_that_is_too_long_ends_with_its_length(character: str) -> None:
    cut = text(character * 1_000_000)
    assert len(cut.encode()) <= LONGEST_TEXT
    assert cut.startswith(text(character) * 1000)
    assert cut.endswith("… [cut: 1000000 characters]")
    assert "�" not in cut


def _spans(providers: Providers) -> None:
    tracer = providers.tracer_provider.get_tracer(_HALF)
    tracer.start_span("before").end()
    span = tracer.start_span(
        _HALF, attributes={_HALF: _HALF, "list": [_HALF], "long": "x" * 5_000_000, "int": _LARGE}
    )
    span.record_exception(ValueError(_HALF))
    span.add_event(_HALF, {_HALF: _HALF})
    span.set_status(Status(StatusCode.ERROR, _HALF))
    span.end()
    tracer.start_span("after").end()


def test_hostile_span_goes_with_its_neighbours(providers: Providers, receiver: Receiver) -> None:
    _spans(providers)
    assert providers.shutdown(20.0) is True
    assert [span.name for span in receiver.spans] == ["before", _SPELLED, "after"]
    found = receiver.spans[1]
    assert found.attributes[_SPELLED] == _SPELLED
    assert found.attributes["list"] == (_SPELLED,)
    assert found.attributes["int"] == str(_LARGE)
    assert found.attributes["long"].endswith("[cut: 5000000 characters]")
    assert [event.name for event in found.span.events] == ["exception", _SPELLED]
    assert found.span.status.message == _SPELLED


def test_span_that_nothing_can_encode_is_counted_and_its_neighbours_go(
    providers: Providers, receiver: Receiver
) -> None:
    tracer = providers.tracer_provider.get_tracer("test")
    for start in chain([None], repeat(-5, 2), [None]):
        tracer.start_span("span", start_time=start).end()
    assert providers.shutdown(20.0) is True
    assert len(receiver.spans) == 2
    assert providers.delivery
    counts = providers.delivery.pipelines[Signal.TRACES].statistics
    assert (counts.exported[""], counts.not_encodable) == (2, 2)


class _WordlessError(Exception):
    __str__ = _Wordless.__str__


def _wordless() -> None:
    try:
        raise _WordlessError
    except _WordlessError:
        logger.exception("line")


def _library(message: str, argument: object) -> None:
    """Not through its logger: pytest's own handler there raises what ours must not."""
    record = {"name": "library", "msg": message, "args": (argument,), "levelno": 30}
    ToLoguru().handle(logging.makeLogRecord(record))


def _named_half(record: "Record") -> None:
    record["name"] = _HALF


def _boom() -> None:
    try:
        raise ValueError(_HALF)
    except ValueError:
        logger.exception("line")


@pytest.mark.parametrize(
    ("log", "wanted"),
    [
        (lambda: logger.info(_HALF), _SPELLED),
        (lambda: logger.info("y" * 5_000_000), text("y" * 5_000_000)),
        (lambda: logger.bind(**{_HALF: [_HALF, {_HALF: _LARGE}]}).info("line"), "line"),
        (
            lambda: logger.bind(one=_Wordless(), two=_ITSELF, three="x" * 5_000_000).info("line"),
            "line",
        ),
        (lambda: logger.patch(_named_half).info("line"), "line"),
        (_boom, "line"),
        (_wordless, "line"),
        (lambda: _library("%d", "no number"), "%d ('no number',)"),
        (lambda: _library("%s", _Wordless()), "%s "),
    ],
)
def test_hostile_line_goes_with_its_neighbours(
    log: Callable[[], object], wanted: str, providers: Providers, receiver: Receiver
) -> None:
    """And whoever wanted to log gets no error."""
    stop = start_export(Bridge(providers.logger_provider), "INFO")
    logger.info("before")
    log()
    logger.info("after")
    stop()
    assert providers.shutdown(20.0) is True
    bodies = [record.body for record in receiver.log_records]
    assert {"before", "after"} < set(bodies)
    assert len(bodies) == 3
    assert any(body.startswith(wanted) for body in bodies)


def test_exception_whose_text_raises_has_its_type_and_place(
    providers: Providers, receiver: Receiver
) -> None:
    stop = start_export(Bridge(providers.logger_provider), "INFO")
    _wordless()
    stop()
    providers.shutdown(20.0)
    [record] = receiver.log_records
    assert record.attributes[names.EXCEPTION_TYPE] == f"{__name__}._WordlessError"
    assert "RuntimeError" in record.attributes[names.EXCEPTION_MESSAGE]
    assert "_wordless" in record.attributes[names.EXCEPTION_STACKTRACE]


def test_sum_that_no_integer_holds_ends_no_metric(providers: Providers, receiver: Receiver) -> None:
    meter = providers.meter_provider.get_meter(_HALF)
    meter.create_counter("large").add(_LARGE)
    meter.create_histogram("spread").record(_LARGE)
    halves = meter.create_counter("halves")
    halves.add(1, {"of": _HALF})
    halves.add(2, {"of": _HALF + "!"})
    providers.shutdown(20.0)
    points = receiver.metric_points
    values = {point.name: point.value for point in points if point.name in ("large", "spread")}
    assert values == {"large": float(_LARGE), "spread": 1.0}
    found = {point.attributes["of"]: point.value for point in points if point.name == "halves"}
    assert found == {_SPELLED: 1.0, _SPELLED + "!": 2.0}
