"""Records of the standard library's logging on their way to loguru."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from loguru import logger

from chatscope.logs import console
from chatscope.logs.handling import is_handling, this_thread
from chatscope.logs.standard import ToLoguru

if TYPE_CHECKING:
    from loguru import Message, Record


@pytest.fixture
def logged() -> Iterator[list["Record"]]:
    records: list[Record] = []

    def keep(message: "Message") -> None:
        records.append(message.record)

    sink = logger.add(keep, level=0)
    yield records
    logger.remove(sink)


class _Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr("chatscope.logs.standard.time", clock)
    return clock


def _record(name: str, message: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 7, message, None, None, "work")


def test_message_of_the_sdk_is_let_through_once_a_minute(
    logged: list["Record"], clock: _Clock
) -> None:
    handler = ToLoguru()

    def emit(*messages: str, name: str = "opentelemetry.sdk.trace") -> None:
        for message in messages:
            handler.emit(_record(name, message))

    emit("lost", "lost", "other", "lost")
    clock.now += 59
    emit("lost")
    clock.now += 2
    emit("lost", "other")
    clock.now += 61
    emit("lost")
    assert [record["message"] for record in logged] == [
        "lost",
        "other",
        "lost (3 more since the last report)",
        "other",
        "lost",
    ]


def test_our_own_and_other_messages_may_repeat(logged: list["Record"], clock: _Clock) -> None:
    handler = ToLoguru()
    for name in ("opentelemetry.chatscope", "some.library"):
        for _ in range(2):
            handler.emit(_record(name, "again"))
    assert len(logged) == 4


@pytest.mark.parametrize(
    ("name", "least"),
    [("httpx2", logging.WARNING), ("openai._base_client", logging.INFO), ("other", 1)],
)
def test_libraries_that_log_much_have_a_least_level(
    logged: list["Record"], name: str, least: int
) -> None:
    handler = ToLoguru()
    for level in (least - 1, least):
        handler.emit(_record(name, "line", level))
    expected = [least] if least > 1 else [0, 1]
    assert [record["level"].no for record in logged] == expected


def test_record_keeps_its_place(logged: list["Record"]) -> None:
    ToLoguru().emit(_record("some.library", "line"))
    [record] = logged
    assert (record["name"], record["function"], record["line"]) == ("some.library", "work", 7)
    assert (record["file"].name, record["file"].path) == ("test_stdlib_logs.py", __file__)
    assert record["level"].name == "WARNING"


def test_line_of_another_shape_is_no_access_line(logged: list["Record"]) -> None:
    record = _record("uvicorn.access", "%s and %s")
    record.args = ("a", "b")
    ToLoguru().emit(record)
    assert [found["message"] for found in logged] == ["a and b"]


def test_message_that_cannot_be_formatted_is_described(logged: list["Record"]) -> None:
    record = _record("some.library", "%d items")
    record.args = ("no number",)
    ToLoguru().emit(record)
    assert [found["message"] for found in logged] == ["%d items ('no number',)"]


def test_record_made_while_one_is_handled_goes_to_the_console_only(
    logged: list["Record"], capsys: pytest.CaptureFixture[str]
) -> None:
    handler = ToLoguru()
    failed = _record("some.library", "inside", logging.ERROR)
    try:
        raise LookupError("nothing there")
    except LookupError as error:
        failed.exc_info = (type(error), error, error.__traceback__)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(this_thread, "active", True)
        assert is_handling()
        handler.emit(failed)
        handler.emit(_record("some.library", "plain"))
    assert not is_handling()
    assert logged == []
    assert console.flush(60.0)
    shown = capsys.readouterr().err
    assert "inside" in shown
    assert "LookupError: nothing there" in shown
    assert "raise LookupError" in shown
    assert "plain" in shown
    assert shown.count("some.library") == 2
