"""Log records of an application that keeps its own handlers."""

import ast
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from loguru import logger
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from chatscope import Telemetry, TelemetrySettings, instrument
from chatscope.guard import containing_errors
from chatscope.logs import guest, stdlib_records
from chatscope.logs.standard import ToLoguru
from chatscope.names import CONNECTION_ID
from stack.facts import ROOT
from tests.memory import Memory

_ACCESS = '%s - "%s %s HTTP/%s" %d'


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    """Without the handlers that the service's own tests have added in this process."""
    root = logging.getLogger()
    level, taken_over = root.level, [each for each in root.handlers if isinstance(each, ToLoguru)]
    for each in taken_over:
        root.removeHandler(each)
    root.setLevel(logging.WARNING)
    yield
    root.setLevel(level)
    for each in taken_over:
        root.addHandler(each)


async def _chat(socket: WebSocket) -> None:
    await socket.accept()
    logger.info("chatting")
    await socket.send_text("hello")
    await socket.close()


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    telemetry = Telemetry(TelemetrySettings(log_level="DEBUG"), memory.providers)
    telemetry.start()
    yield memory
    telemetry.shutdown()


def test_sinks_and_handlers_of_the_application_are_untouched(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    memory = Memory()
    telemetry = Telemetry(TelemetrySettings(), memory.providers)
    telemetry.start()
    assert root.level == before[0]
    assert [each for each in root.handlers if each in before[1]] == before[1]
    logger.info("by loguru")
    logging.getLogger("shop").warning("by the standard library")
    telemetry.shutdown()
    logger.info("later")
    logger.remove(sink)
    assert lines == ["by loguru\n", "later\n"]
    assert caplog.messages == ["by the standard library"]
    assert [each.log_record.body for each in memory.logs] == [
        "by loguru",
        "by the standard library",
    ]
    assert (root.level, root.handlers) == before


def test_records_of_the_package_reach_no_sink_of_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory, lines = Memory(), list[str]()
    telemetry = Telemetry(TelemetrySettings(), memory.providers)
    app = instrument(Starlette(routes=[WebSocketRoute("/chat", _chat)]), telemetry)
    sink = logger.add(lambda line: lines.append(str(line)), format="{message} {extra}")
    try:
        with TestClient(app) as client, client.websocket_connect("/chat") as socket:
            socket.receive_text()
    finally:
        logger.remove(sink)
        telemetry.shutdown()
    assert lines == ["chatting {}\n"]
    assert [each for each in caplog.messages if "socket" in each] == []
    bodies = [each.log_record.body for each in memory.logs]
    assert bodies == ["socket opened", "chatting", "socket closed"]
    ids = {(each.log_record.attributes or {})[CONNECTION_ID] for each in memory.logs}
    assert len(ids) == 1


def test_records_of_the_package_have_the_level_of_the_setting() -> None:
    memory = Memory()
    telemetry = Telemetry(TelemetrySettings(log_level="WARNING"), memory.providers)
    app = instrument(Starlette(routes=[WebSocketRoute("/chat", _chat)]), telemetry)
    with TestClient(app) as client, client.websocket_connect("/chat") as socket:
        socket.receive_text()
    telemetry.shutdown()
    assert memory.logs == ()


def test_unconfigured_logging_works_as_before() -> None:
    done = _python(
        """
logging.getLogger("shop").warning("by the handler of last resort")
logging.getLogger("shop").info("below its level")
logging.basicConfig(level=logging.INFO, format="BASIC %(message)s")
logging.getLogger("shop").info("by basicConfig")
logging.config.dictConfig({
    "version": 1,
    "handlers": {"own": {"class": "logging.StreamHandler"}},
    "loggers": {"shop": {"handlers": ["own"], "propagate": False, "level": "INFO"}},
})
logging.getLogger("shop.cart").info("by dictConfig")
"""
    )
    assert done.stderr.splitlines() == [
        "by the handler of last resort",
        "BASIC by basicConfig",
        "by dictConfig",
    ]
    assert done.stdout.strip() == str(
        ["by the handler of last resort", "by basicConfig", "by dictConfig"]
    )


def test_level_of_a_logger_is_the_applications(memory: Memory) -> None:
    logging.getLogger("quiet").setLevel(logging.ERROR)
    logging.getLogger("quiet").warning("not this")
    logging.getLogger("quiet").error("this")
    assert [each.log_record.body for each in memory.logs] == ["this"]


def test_removed_loguru_sink_is_added_again() -> None:
    done = _python(
        """
import sys, time
from loguru import logger
logger.info("before")
for _ in range(2):
    logger.remove()
    logger.add(sys.stderr, format="OWN {message}")
    until = time.monotonic() + 5
    delivered = len(exporter.get_finished_logs())
    while len(exporter.get_finished_logs()) == delivered and time.monotonic() < until:
        logger.info("after")
"""
    )
    bodies = ast.literal_eval(done.stdout)
    assert bodies[0] == "before"
    assert bodies.count("after") == 2
    assert "OWN after" in done.stderr
    # The warning is about both, and given once.
    assert done.stderr.count("logger.remove() removed the export") == 1


def test_record_that_both_libraries_hand_on_is_exported_once(memory: Memory) -> None:
    class Intercept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logger.log(record.levelname, record.getMessage())

    handler = Intercept()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        logging.getLogger("shop").warning("to loguru")
        logging.getLogger("shop").warning("to loguru")
    finally:
        root.removeHandler(handler)
    sink = logger.add(lambda message: logging.getLogger("x").info(message.record["message"]))
    root.setLevel(logging.INFO)
    try:
        logger.info("to logging")
    finally:
        root.setLevel(logging.WARNING)
        logger.remove(sink)
    assert [each.log_record.body for each in memory.logs] == [
        "to loguru",
        "to loguru",
        "to logging",
    ]


def test_records_of_a_server_that_does_not_propagate(memory: Memory) -> None:
    server, access = logging.getLogger("uvicorn"), logging.getLogger("uvicorn.access")
    telemetry = Telemetry(TelemetrySettings(), memory.providers)
    for each in (server, access):
        each.propagate = False
        each.setLevel(logging.INFO)
    try:
        telemetry.start()
        logging.getLogger("uvicorn.error").info("started")
        access.info(_ACCESS, "10.0.0.7:5", "GET", "/x?token=secret", "1.1", 200)
        access.info(_ACCESS, "10.0.0.7:5", "GET", "/healthz", "1.1", 200)
    finally:
        telemetry.shutdown()
        for each in (server, access):
            each.propagate = True
            each.setLevel(logging.NOTSET)
    assert [each.log_record.body for each in memory.logs] == ["started", "GET /x 200"]
    assert "secret" not in "".join(each.to_json() for each in memory.logs)


@pytest.mark.parametrize(
    "line",
    ['127.0.0.1 - "GET /x?token=secret HTTP/1.1" 200', "127.0.0.1 GET /x?token=secret 1.1 200 5"],
)
def test_access_records_of_other_servers_have_no_query(line: str) -> None:
    record = logging.makeLogRecord({"name": "gunicorn.access", "msg": line})
    body, extra = stdlib_records.content(record)
    assert "secret" not in f"{body}{extra}"
    assert "/x" in body


@pytest.mark.parametrize(
    ("server", "line"),
    [
        ("gunicorn.access", '1.2.3.4 - - [today] "GET {} HTTP/1.1" 200 2 "-" "curl/8"'),
        ("hypercorn.access", '1.2.3.4 - - [today] "GET {} 1.1" 200 2 "-" "curl/8"'),
    ],
)
def test_health_checks_of_other_servers_are_not_exported(
    memory: Memory, server: str, line: str
) -> None:
    for path in ("/healthz", "/healthz?verbose", "/items/healthz"):
        logging.getLogger(server).warning(line.format(path))
    assert [each.log_record.body for each in memory.logs] == [line.format("/items/healthz")]


def test_applications_of_one_process_do_not_mix() -> None:
    one, other = Memory(), Memory()
    first = Telemetry(TelemetrySettings(), one.providers)
    second = Telemetry(TelemetrySettings(), other.providers)
    first.start()
    second.start()
    try:
        for telemetry, name in ((first, "first"), (second, "second")):
            with telemetry.request():
                logger.info(name)
                logging.getLogger("shop").warning(name)
    finally:
        first.shutdown()
        second.shutdown()
    assert [each.log_record.body for each in one.logs] == ["first", "first"]
    assert [each.log_record.body for each in other.logs] == ["second", "second"]


def test_error_of_the_export_reaches_no_caller(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: logging.LogRecord) -> tuple[str, dict[str, object]]:
        raise RuntimeError("a bug of the package")

    monkeypatch.setattr(guest, "content", fail)
    with pytest.raises(RuntimeError, match="a bug of the package"):
        logging.getLogger("shop").error("raises in a test")
    with containing_errors():
        logging.getLogger("shop").error("contained elsewhere")


def test_records_are_exported_without_loguru() -> None:
    done = _python('logging.warning("hello")', loguru=False)
    assert done.stdout.strip() == "['hello']"


def test_applications_and_model_calls_are_recorded_without_loguru() -> None:
    code = """
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
import chatscope
from chatscope.testing import recorded

async def chat(socket):
    await socket.accept()
    with chatscope.inference(model="m", provider="p") as call:
        call.response(text="hi")
    await socket.close()

with recorded() as memory:
    app = chatscope.instrument(Starlette(routes=[WebSocketRoute("/chat", chat)]))
    with TestClient(app) as client, client.websocket_connect("/chat"):
        pass
print(sorted(span.name for span in memory.spans), len(memory.logs))
"""
    done = _python(code, loguru=False)
    assert done.stdout.splitlines()[0] == "['GET /chat', 'chat m'] 3"


_WITHOUT_LOGURU = """
import importlib.machinery, importlib.util, sys
sys.modules["loguru"] = None
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "loguru" else find(name, *rest)
"""
_BEGIN = """
import logging, logging.config
from chatscope.logs.bridge import Bridge
from chatscope.logs.guest import LogExport
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
exporter = InMemoryLogRecordExporter()
provider = LoggerProvider()
provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
export = LogExport(Bridge(provider), "INFO")
"""
_END = """
export.detach()
print([each.log_record.body for each in exporter.get_finished_logs()])
"""


def _python(code: str, *, loguru: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ("" if loguru else _WITHOUT_LOGURU) + _BEGIN + code + _END],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
