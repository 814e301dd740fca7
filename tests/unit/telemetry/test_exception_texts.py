"""Exceptions whose texts block, raise or have no end: described within a limit of time."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from loguru import logger

from chatscope import exception_texts
from chatscope.exception_texts import attributes_of
from chatscope.logs.bridge import Bridge
from chatscope.logs.loguru_handler import start_export
from chatscope.logs.standard import ToLoguru
from chatscope.otlp.values import MAX_TEXT_BYTES
from chatscope.providers import TelemetrySettings, build_providers
from stack.waiting import poll_until
from tests.elapsed import takes_at_most
from tests.receiver import Receiver

_LIMIT = exception_texts._MAX_SECONDS
# For the message and the stack trace, in the log record and on the console.
_MOST_SECONDS = 4 * _LIMIT + 1.0


class _Blocked:
    """Its text comes once `release` is set; not never, as pytest asks for it where a test fails."""

    def __init__(self, release: threading.Event) -> None:
        self._release = release

    def __str__(self) -> str:
        self._release.wait(60)
        return "late"

    __repr__ = __str__


class _BlockedError(Exception):
    def __str__(self) -> str:
        return str(self.args[0])


class _OwnError(Exception):
    def __str__(self) -> str:
        return f"own text {self.args[0]}"


class _EndingError(Exception):
    def __str__(self) -> str:
        raise SystemExit


class _LongError(Exception):
    def __str__(self) -> str:
        return "x" * 5_000_000


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Ends the threads of a test, so that the next one has as many."""
    release = threading.Event()
    yield release
    release.set()
    poll_until(
        lambda: not any(each.name == "exception text" for each in threading.enumerate()),
        "the threads to end",
    )


def _cause(error: Exception) -> Exception:
    outer = RuntimeError("outer")
    outer.__cause__ = error
    return outer


def _noted(error: Exception, note: object) -> Exception:
    error.__notes__ = [note]  # type: ignore[list-item]
    return error


_MADE: list[Callable[[threading.Event], Exception]] = [
    lambda release: _BlockedError(_Blocked(release)),
    lambda release: ValueError(_Blocked(release)),
    lambda release: OSError(2, "No", _Blocked(release)),
    lambda release: _cause(_BlockedError(_Blocked(release))),
    lambda release: ExceptionGroup("group", [_BlockedError(_Blocked(release))]),
    lambda release: _noted(ValueError("noted"), _Blocked(release)),
]


@pytest.mark.slow
@pytest.mark.parametrize("make", _MADE)
def test_text_that_blocks_is_waited_for_within_a_limit(
    make: Callable[[threading.Event], Exception], release: threading.Event
) -> None:
    error = make(release)
    try:
        raise error
    except Exception:
        with takes_at_most(2 * _LIMIT + 0.5, factor=1.0):
            found = attributes_of(error)
    assert type(error).__name__ in found["exception.stacktrace"]
    assert "test_text_that_blocks" in found["exception.stacktrace"]
    assert found["exception.message"]
    assert "late" not in str(found)


@pytest.mark.slow
def test_texts_that_block_use_few_threads_and_plain_exceptions_none(
    release: threading.Event,
) -> None:
    errors = [_BlockedError(_Blocked(release)) for _ in range(50)]
    with takes_at_most(exception_texts._MAX_STUCK * _LIMIT + 1.0, factor=1.0):
        for error in errors:
            attributes_of(error)
    stuck = [each for each in threading.enumerate() if each.name == "exception text"]
    assert len(stuck) == exception_texts._MAX_STUCK
    assert attributes_of(ValueError("plain"))["exception.message"] == "plain"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("plain"), "plain"),
        (KeyError("a"), "'a'"),
        (OSError(2, "No", "f"), "[Errno 2] No: 'f'"),
        (_OwnError(3), "own text 3"),
        (_EndingError(), "<_EndingError without a text: SystemExit>"),
        (_LongError(), f"{'x' * 10}"),
        (ValueError("half \ud800"), "half \\ud800"),
    ],
)
def test_message_is_the_text_of_the_exception(error: Exception, message: str) -> None:
    found = attributes_of(error)["exception.message"]
    assert found.startswith(message)
    assert len(found.encode()) <= MAX_TEXT_BYTES


@pytest.mark.parametrize(
    ("error", "name"),
    [(ValueError("x"), "ValueError"), (_OwnError("x"), f"{__name__}._OwnError")],
)
def test_type_is_the_qualified_name_of_the_class(error: Exception, name: str) -> None:
    assert attributes_of(error)["exception.type"] == name


def test_long_chain_is_not_searched_on_the_callers_thread(release: threading.Event) -> None:
    error = ValueError("outer")
    last: BaseException = error
    for number in range(exception_texts._MAX_CHAIN):
        last.__context__ = ValueError(f"link {number}")
        last = last.__context__
    assert not exception_texts._is_plain(error)
    last.__context__ = None
    error.__context__, error.__cause__ = _BlockedError(_Blocked(release)), ValueError("plain")
    assert not exception_texts._is_plain(error)
    error.__context__, error.__cause__ = ValueError("plain"), _BlockedError(_Blocked(release))
    assert not exception_texts._is_plain(error)
    error.__cause__ = None
    assert exception_texts._is_plain(error)


def test_arguments_and_file_names_of_an_os_error_may_block(release: threading.Event) -> None:
    blocked = _Blocked(release)
    assert not exception_texts._is_plain(OSError(blocked))
    assert not exception_texts._is_plain(OSError(2, "none", blocked))
    assert exception_texts._is_plain(OSError(2, "none", "file"))


@pytest.mark.parametrize("stuck", [False, True])
def test_stack_trace_has_the_innermost_frames(stuck: bool, release: threading.Event) -> None:
    def innermost() -> None:
        raise _BlockedError(_Blocked(release)) if stuck else ValueError("x")

    def middle(depth: int) -> None:
        if depth:
            middle(depth - 1)
        else:
            innermost()

    def outermost() -> None:
        middle(exception_texts._MAX_FRAMES)

    try:
        outermost()
    except (ValueError, _BlockedError) as error:
        stack_trace = attributes_of(error)["exception.stacktrace"]
    assert "in innermost" in stack_trace
    assert "in outermost" not in stack_trace


@pytest.mark.slow
def test_thread_that_makes_a_text_does_not_keep_the_process(release: threading.Event) -> None:
    attributes_of(_BlockedError(_Blocked(release)))
    threads = [thread for thread in threading.enumerate() if thread.name == "exception text"]
    assert threads
    assert all(thread.daemon for thread in threads)


def test_endless_recursion_has_a_short_stack_trace() -> None:
    def recurse() -> None:
        recurse()

    try:
        recurse()
    except RecursionError as error:
        trace = attributes_of(error)["exception.stacktrace"]
    assert trace.count("\n") < 250
    assert "RecursionError" in trace


@pytest.mark.slow
def test_exception_that_blocks_is_exported_by_each_route(release: threading.Event) -> None:
    error = _BlockedError(_Blocked(release))
    with Receiver() as receiver:
        providers = build_providers(TelemetrySettings(endpoint=receiver.endpoint))
        stop = start_export(Bridge(providers.logger_provider), "INFO")
        with takes_at_most(_MOST_SECONDS, factor=1.0):
            logger.opt(exception=error).error("loguru")
            # Not through its logger: pytest's own handler there asks for the text.
            made = {"name": "library", "msg": "library", "levelno": 40}
            found = logging.makeLogRecord({**made, "exc_info": (_BlockedError, error, None)})
            ToLoguru().handle(found)
            span = providers.tracer_provider.get_tracer("test").start_span("span")
            span.record_exception(error)
            span.end()
        stop()
        assert providers.shutdown(10)
    assert [record.body for record in receiver.log_records] == ["loguru", "library"]
    for record in receiver.log_records:
        assert "_BlockedError" in record.attributes["exception.message"]
    [event] = receiver.spans[0].span.events
    assert event.name == "exception"


def _query(parameters: str) -> None:
    raise KeyError(parameters)


def _fail(*, hidden: bool = False) -> None:
    try:
        _query("what somebody asked")
    except KeyError as error:
        raise _OwnError("the query failed") from (None if hidden else error)


def test_causes_are_named_without_their_texts() -> None:
    with pytest.raises(_OwnError) as raised:
        _fail()
    found = attributes_of(raised.value)["exception.stacktrace"]
    assert "own text the query failed" in found
    assert found.endswith("\nCaused by: KeyError\n")
    assert "somebody asked" not in found


def test_suppressed_context_is_not_named() -> None:
    with pytest.raises(_OwnError) as raised:
        _fail(hidden=True)
    assert "Caused by" not in attributes_of(raised.value)["exception.stacktrace"]


def test_chain_without_an_end_is_cut() -> None:
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    found = attributes_of(first)["exception.stacktrace"]
    assert found.count("Caused by") == exception_texts._MAX_CHAIN
