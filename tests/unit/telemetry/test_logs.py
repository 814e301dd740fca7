"""loguru, the standard library and uvicorn as OTLP log records."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from loguru import logger
from opentelemetry._logs import SeverityNumber

from chatscope.logs import console
from chatscope.logs.bridge import Bridge, severity
from chatscope.logs.loguru_handler import start_export
from chatscope.logs.standard import hide_access_lines
from tests.memory import Memory


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    stop = start_export(Bridge(memory.providers.logger_provider), "TRACE")
    yield memory
    stop()


@pytest.mark.parametrize(
    ("level", "number", "text"),
    [
        ("TRACE", SeverityNumber.TRACE, "TRACE"),
        ("DEBUG", SeverityNumber.DEBUG, "DEBUG"),
        ("INFO", SeverityNumber.INFO, "INFO"),
        ("SUCCESS", SeverityNumber.INFO2, "INFO2"),
        ("WARNING", SeverityNumber.WARN, "WARN"),
        ("ERROR", SeverityNumber.ERROR, "ERROR"),
        ("CRITICAL", SeverityNumber.FATAL, "FATAL"),
    ],
)
def test_loguru_level_has_its_severity(
    memory: Memory, level: str, number: SeverityNumber, text: str
) -> None:
    logger.log(level, "hello")
    record = memory.log("hello").log_record
    assert (record.severity_number, record.severity_text) == (number, text)


def test_stopped_logging_exports_no_more_records() -> None:
    memory = Memory()
    stop = start_export(Bridge(memory.providers.logger_provider), "INFO")
    logger.info("early")
    stop()
    logger.info("late")
    assert [record.log_record.body for record in memory.logs] == ["early"]


def test_custom_level_takes_the_nearest_below() -> None:
    assert severity(33) == (SeverityNumber.WARN, "WARN")
    assert severity(99) == (SeverityNumber.FATAL, "FATAL")
    assert severity(1) == (SeverityNumber.TRACE, "TRACE")


def test_record_carries_body_time_and_place(memory: Memory) -> None:
    logger.info("hello")
    record = memory.log("hello").log_record
    found = dict(record.attributes or {})
    assert str(found["code.file.path"]).endswith("test_logs.py")
    assert str(found["code.function.name"]).endswith("test_record_carries_body_time_and_place")
    assert isinstance(found["code.line.number"], int)
    assert record.timestamp is not None
    assert record.observed_timestamp is not None
    assert abs(record.observed_timestamp - record.timestamp) < timedelta(minutes=1).seconds * 1e9


def test_patched_record_with_a_place_of_other_types_is_exported(memory: Memory) -> None:
    logger.patch(lambda record: record.update(line=[1])).info("hello")  # type: ignore[call-arg]
    found = dict(memory.log("hello").log_record.attributes or {})
    assert found["code.line.number"] == (1,)


def test_values_keep_their_types(memory: Memory) -> None:
    odd = object()
    logger.bind(count=3, ratio=0.5, yes=True, names=["a", "b"], deep={"x": 1}, odd=odd).info("v")
    found = dict(memory.log("v").log_record.attributes or {})
    assert (found["count"], found["ratio"], found["yes"]) == (3, 0.5, True)
    assert list(found["names"]) == ["a", "b"]  # type: ignore[arg-type]
    assert found["deep"] == {"x": 1}
    assert found["odd"] == "<object object>"


def test_exception_is_structured_and_not_in_the_body(memory: Memory) -> None:
    try:
        raise LookupError("nothing there")
    except LookupError:
        logger.exception("failed")
    found = dict(memory.log("failed").log_record.attributes or {})
    assert found["exception.type"] == "LookupError"
    assert found["exception.message"] == "nothing there"
    assert "raise LookupError" in str(found["exception.stacktrace"])


def test_record_in_a_span_carries_its_ids(memory: Memory) -> None:
    tracer = memory.providers.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("work") as span:
        logger.info("inside")
        logging.getLogger("some.library").warning("inside too")
    context = span.get_span_context()
    for body in ("inside", "inside too"):
        record = memory.log(body).log_record
        assert (record.trace_id, record.span_id) == (context.trace_id, context.span_id)


def test_standard_library_record_comes_once_as_it_was(memory: Memory) -> None:
    logging.getLogger("some.library").error("code %d", 7, extra={"attempt": 2})
    record = memory.log("code 7")
    found = dict(record.log_record.attributes or {})
    assert record.instrumentation_scope is not None
    assert record.instrumentation_scope.name == "some.library"
    assert record.log_record.severity_text == "ERROR"
    assert found["attempt"] == 2
    assert str(found["code.file.path"]).endswith("test_logs.py")


def test_standard_library_exception_is_structured(memory: Memory) -> None:
    try:
        raise LookupError("nothing there")
    except LookupError:
        logging.getLogger("some.library").exception("failed")
    found = dict(memory.log("failed").log_record.attributes or {})
    assert found["exception.type"] == "LookupError"


@pytest.mark.parametrize("name", ["opentelemetry.sdk._logs.export", "grpc._channel"])
def test_exporters_own_log_is_shown_and_not_exported(
    memory: Memory, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    logging.getLogger(name).error("Failed to export")
    assert memory.logs == ()
    assert console.flush(60.0)
    assert "Failed to export" in capsys.readouterr().err


def test_access_line_is_structured_and_without_its_query(memory: Memory) -> None:
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d', "127.0.0.1:5", "GET", "/x?token=secret", "1.1", 200
    )
    record = memory.log("GET /x 200")
    assert dict(record.log_record.attributes or {})["http.response.status_code"] == 200
    assert "secret" not in record.to_json()


@pytest.mark.parametrize(
    ("line", "arguments", "status"),
    [
        ('%s - "WebSocket %s" [accepted]', ("10.0.0.7:5", "/ws?token=secret"), 101),
        ('%s - "WebSocket %s" 403', ("10.0.0.7:5", "/ws?token=secret"), 403),
        ('%s - "WebSocket %s" %d', ("10.0.0.7:5", "/ws?token=secret", 503), 503),
    ],
)
def test_handshake_line_is_structured_and_without_its_query(
    memory: Memory, line: str, arguments: tuple[object, ...], status: int
) -> None:
    logging.getLogger("uvicorn.error").info(line, *arguments)
    record = memory.log(f"WebSocket /ws {status}").log_record
    found = dict(record.attributes or {})
    assert (found["client.address"], found["url.path"]) == ("10.0.0.7", "/ws")
    assert found["http.response.status_code"] == status
    assert "secret" not in str(found)


def test_text_of_websocket_frames_is_not_logged_even_at_debug(memory: Memory) -> None:
    logging.getLogger("uvicorn.error").debug("< TEXT %s", "a secret")
    assert not memory.logs


def test_access_line_of_a_quiet_path_goes_nowhere(memory: Memory) -> None:
    hide_access_lines({"/healthz"})
    for path in ("/healthz?from=probe", "/other"):
        logging.getLogger("uvicorn.access").info(
            '%s - "%s %s HTTP/%s" %d', "127.0.0.1:5", "GET", path, "1.1", 200
        )
    assert [record.log_record.body for record in memory.logs] == ["GET /other 200"]


def test_painted_twin_of_a_message_is_dropped(memory: Memory) -> None:
    logging.getLogger("uvicorn.error").info("up", extra={"color_message": "painted"})
    assert "color_message" not in dict(memory.log("up").log_record.attributes or {})


def test_message_with_braces_survives(memory: Memory) -> None:
    logging.getLogger("some.library").info('{"json": {0}}')
    assert memory.log('{"json": {0}}')


def test_console_shows_the_same_line_for_a_person(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    tracer = memory.providers.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("work") as span:
        logger.bind(tokens=42).warning("hello")
    assert console.flush(60.0)
    line = capsys.readouterr().err
    assert "WARNING" in line
    assert "hello tokens=42" in line
    assert f"trace={span.get_span_context().trace_id:032x}"[:14] in line


def test_level_below_the_chosen_goes_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    memory = Memory()
    stop = start_export(Bridge(memory.providers.logger_provider), "WARNING")
    logger.info("quiet")
    logging.getLogger("some.library").info("quiet too")
    stop()
    assert memory.logs == ()


_EARLY = """
import logging
from chatscope.logs import console
from chatscope.logs.bridge import Bridge
from chatscope.logs.loguru_handler import buffer_logs, print_buffered_logs, start_export
buffer_logs()
from loguru import logger
from tests.memory import Memory
logger.info("first")
logging.getLogger("uvicorn.error").info("second")
memory = Memory()
"""


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True
    )


def test_early_records_wait_and_come_out_both_ways_in_order() -> None:
    done = _python(
        _EARLY
        + """
start_export(Bridge(memory.providers.logger_provider), "INFO")
logger.info("third")
print([record.log_record.body for record in memory.logs])
times = [record.log_record.timestamp for record in memory.logs]
assert times == sorted(times)
"""
    )
    assert done.stdout.strip() == "['first', 'second', 'third']"
    shown = done.stderr
    assert shown.index("first") < shown.index("second") < shown.index("third")
    assert shown.count("second") == 1


def test_failed_start_prints_what_was_buffered() -> None:
    done = _python(_EARLY + "print_buffered_logs()")
    assert "first" in done.stderr
    assert "second" in done.stderr


def test_nothing_is_printed_before_the_start_is_decided() -> None:
    assert _python(_EARLY).stderr == ""


def test_warning_of_python_is_a_record() -> None:
    done = _python(
        _EARLY
        + """
import warnings
start_export(Bridge(memory.providers.logger_provider), "INFO")
warnings.warn("old thing", UserWarning)
print([r.instrumentation_scope.name for r in memory.logs if "old thing" in r.log_record.body])
"""
    )
    assert done.stdout.strip() == "['py.warnings']"
