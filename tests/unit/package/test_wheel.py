"""The package as others install it: a wheel, in a folder without this checkout."""

import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import chatscope
from stack.facts import ROOT
from stack.waiting import poll_until
from tests.receiver import Receiver
from tests.unit.package.environment import (
    Environment,
    free_port,
    get,
    get_many,
    shared_environment,
    shared_wheel,
    stop,
    uv,
    wait_until_up,
)
from tests.unit.package.programs import run_orders, write_script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.xdist_group("package")]

_REQUESTS = 400
_DURATION = "http.server.request.duration"

_LITESTAR = """
import logging
import chatscope
from litestar import Litestar, get

logging.basicConfig(level=logging.INFO)
chatscope.configure(service_name="shop")

@get("/items/{item_id:int}")
async def item(item_id: int) -> dict[str, int]:
    logging.getLogger("shop").info("item shown")
    return {"id": item_id}

app = chatscope.instrument(Litestar([item]))
"""
_QUART = """
import logging
import chatscope
from quart import Quart

logging.basicConfig(level=logging.INFO)
chatscope.configure(service_name="shop")
app = Quart("shop")

@app.get("/items/<int:item_id>")
async def item(item_id):
    logging.getLogger("shop").info("item shown")
    return {"id": item_id}

app = chatscope.instrument(app)
"""
_LOGFIRE = """
import logging
import logfire
import chatscope
from opentelemetry.metrics import get_meter

logfire.configure(send_to_logfire=False, console=False, service_name="shop")
chatscope.configure(use_existing_providers=True)
with logfire.span("order {number}", number=1):
    logging.getLogger("shop").warning("ordered")
logfire.metric_counter("orders").add(3)
get_meter("shop").create_counter("returns").add(1)
"""
_LANGFUSE = """
import logging, sys
import chatscope
from langfuse import Langfuse
from opentelemetry import trace

def connect():
    return Langfuse(public_key="pk", secret_key="sk", base_url=sys.argv[1])

if sys.argv[2] == "langfuse first":
    client = connect()
    try:
        chatscope.configure(service_name="shop")
    except chatscope.ProvidersExistError as error:
        print(error, flush=True)
    chatscope.configure(service_name="shop", use_existing_providers=True)
else:
    chatscope.configure(service_name="shop")
    client = connect()
with trace.get_tracer("shop").start_as_current_span("order"):
    logging.getLogger("shop").warning("ordered")
    with client.start_as_current_observation(name="generate", as_type="generation"):
        pass
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_wheel(tmp_path_factory)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return shared_environment(tmp_path_factory)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_wheel_contains_only_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith("/METADATA")]
        text = archive.read(metadata).decode()
    info = f"chatscope-{chatscope.__version__}.dist-info/"
    assert {name.partition("/")[0] + "/" for name in names} == {"chatscope/", info}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "chatscope").rglob("*.py")} | {
        "chatscope/py.typed",
        "chatscope/genai/prices.json",
    }
    assert {name for name in names if name.startswith("chatscope/")} == sources
    required = re.findall(r"^Requires-Dist: (.*)$", text, re.MULTILINE)
    assert required
    assert not [each for each in required if "==" in each.partition(";")[0]]


def test_command_names_the_extra_that_it_needs(
    environment: Environment, wheel: Path, receiver: Receiver
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        extras = re.findall(r"^Provides-Extra: (.*)$", archive.read(metadata).decode(), re.M)
    assert "cli" in extras
    with environment.running(receiver.endpoint, "chatscope", "doctor") as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "typer" in output
    assert "pip install 'chatscope[cli]'" in output
    with environment.running(receiver.endpoint, "chatscope", "export", "--help") as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output


def test_uninstalling_leaves_nothing_behind(wheel: Path, tmp_path: Path) -> None:
    uv("venv", "-q", "--python", sys.executable, tmp_path)
    python = tmp_path / "bin" / "python"
    packages = next(tmp_path.glob("lib/*/site-packages"))
    before = set(packages.iterdir())
    uv("pip", "install", "-q", "--no-deps", "--python", python, wheel)
    subprocess.run([python, "-c", "import chatscope.settings"], cwd=tmp_path, check=True)
    uv("pip", "uninstall", "-q", "--python", python, "chatscope")
    assert set(packages.iterdir()) == before
    assert not list(tmp_path.rglob("chatscope*"))


def test_application_of_twenty_lines_is_observed_and_keeps_its_log(
    environment: Environment, receiver: Receiver
) -> None:
    shutil.copy(ROOT / "examples" / "fastapi" / "shop.py", environment.folder)
    port = free_port()
    with environment.running(
        receiver.endpoint, "uvicorn", "shop:app", "--port", str(port)
    ) as process:
        wait_until_up(port)
        assert get(port, "/items/42?token=secret") == 200
        assert get(port, "/broken?token=secret") == 500
        output = stop(process)
    spans = {span.name: span for span in receiver.spans}
    assert [span.name for span in receiver.spans] == ["GET /items/{item_id}", "GET /broken"]
    assert spans["GET /items/{item_id}"].resource["service.name"] == "shop"
    assert [event.name for event in spans["GET /broken"].span.events] == ["exception"]
    trace = spans["GET /items/{item_id}"].trace_id
    shown = [each for each in receiver.log_records if each.trace_id == trace]
    assert [each.body for each in shown] == ["item shown", "GET /items/42 200"]
    assert shown[0].attributes["item"] == 42
    failed = [each for each in receiver.log_records if "exception.message" in each.attributes]
    assert [each.attributes["exception.message"] for each in failed] == ["out of stock"]
    failed_trace = spans["GET /broken"].trace_id
    assert {each.trace_id for each in receiver.log_records if each.body == "GET /broken 500"} == {
        failed_trace
    }
    assert failed[0].trace_id == failed_trace
    assert receiver.last(_DURATION, http__route="/items/{item_id}").popitem()[1] == 1
    assert receiver.last(_DURATION, http__response__status_code=500).popitem()[1] == 1
    # FastAPI's own instrumentation, whose scope this is, would count each request once more.
    assert not [export for export in receiver.exports if b"\n\x07fastapi" in export]
    # Its own log: loguru's default sink, and uvicorn's, each line once.
    assert output.count("item shown") == 1
    assert output.count('"GET /items/42?token=secret HTTP/1.1" 200') == 1
    assert output.count("RuntimeError: out of stock") == 1
    # Nothing else has the query; metrics without a convention come with what needs them, except the
    # one that says that the process ended on purpose.
    assert not [export for export in receiver.exports if b"secret" in export]
    names = {point.name for point in receiver.metric_points}
    ours = {name for name in names if name.startswith(("chatscope.", "llm_", "message_"))}
    assert ours == {"chatscope.process.ended"}


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["import", "preload"])
def test_each_of_four_workers_counts_its_own_requests(
    environment: Environment, receiver: Receiver, options: tuple[str, ...]
) -> None:
    shutil.copy(ROOT / "examples" / "fastapi" / "shop.py", environment.folder)
    port = free_port()
    with environment.running(
        receiver.endpoint,
        "gunicorn",
        *("shop:app", "-k", "uvicorn_worker.UvicornWorker", "-w", "4"),
        *("-b", f"127.0.0.1:{port}", "--no-control-socket", *options),
        OTEL_RESOURCE_ATTRIBUTES="service.instance.id=a1",
    ) as process:
        wait_until_up(port)
        assert set(get_many(port, "/items/42", _REQUESTS)) == {200}
        output = stop(process)
    assert len(receiver.spans) == _REQUESTS, output
    counted = receiver.last(_DURATION, http__route="/items/{item_id}")
    assert sum(counted.values()) == _REQUESTS
    assert set(counted) == {span.resource["service.instance.id"] for span in receiver.spans}
    assert len(counted) > 1
    shown = [each for each in receiver.log_records if each.body == "item shown"]
    assert len(shown) == _REQUESTS


@pytest.mark.parametrize("framework", ["litestar", "quart"])
@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_frameworks_and_servers(
    environment: Environment, receiver: Receiver, framework: str, server: str
) -> None:
    source = {"litestar": _LITESTAR, "quart": _QUART}[framework]
    (environment.folder / f"{framework}_shop.py").write_text(source)
    port = free_port()
    address = ("--port", str(port)) if server == "uvicorn" else ("-b", f"127.0.0.1:{port}")
    with environment.running(
        receiver.endpoint, server, f"{framework}_shop:app", *address
    ) as process:
        wait_until_up(port)
        assert get(port, "/items/42") == 200
        output = stop(process)
    assert len(receiver.spans) == 1, output
    [shown] = [each for each in receiver.log_records if each.body == "item shown"]
    assert shown.trace_id == receiver.spans[0].trace_id
    assert sum(receiver.last(_DURATION).values()) == 1


def test_celery_worker_delivers_what_its_processes_did(
    environment: Environment, receiver: Receiver
) -> None:
    output = run_orders(
        environment, receiver.endpoint, 20,
        OTEL_RESOURCE_ATTRIBUTES="service.instance.id=a1",
        # Only the end of the processes sends what they did.
        OTEL_BSP_SCHEDULE_DELAY="3600000", OTEL_METRIC_EXPORT_INTERVAL="3600000",
    )  # fmt: skip
    assert sorted(span.attributes["number"] for span in receiver.spans) == list(range(20)), output
    counted = receiver.last("orders")
    assert sum(counted.values()) == 20
    assert set(counted) == {span.resource["service.instance.id"] for span in receiver.spans}
    orders = [each.body for each in receiver.log_records if each.body.startswith("order ")]
    assert sorted(orders) == sorted(f"order {number}" for number in range(20))


@pytest.mark.parametrize("end", ["exit", "SIGTERM"])
def test_script_delivers_at_its_end(environment: Environment, receiver: Receiver, end: str) -> None:
    script = write_script(environment)
    arguments = ["wait"] if end == "SIGTERM" else []
    with environment.running(
        receiver.endpoint, "python", script, *arguments, OTEL_BSP_SCHEDULE_DELAY="3600000"
    ) as process:
        if end == "SIGTERM":
            assert process.stdout is not None
            poll_until(lambda: "worked" in process.stdout.readline(), "the script", 20)  # type: ignore[union-attr]
            stop(process)
            assert process.returncode == -15
        else:
            process.communicate(timeout=240)
            assert process.returncode == 0
    assert [span.name for span in receiver.spans] == ["work"]
    assert [each.body for each in receiver.log_records] == ["working"]
    assert receiver.log_records[0].trace_id == receiver.spans[0].trace_id


def test_what_another_library_records_is_delivered_as_well(
    environment: Environment, receiver: Receiver
) -> None:
    (environment.folder / "with_logfire.py").write_text(_LOGFIRE)
    with environment.running(receiver.endpoint, "python", "with_logfire.py") as process:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
    assert [span.name for span in receiver.spans] == ["order {number}"]
    assert [each.body for each in receiver.log_records] == ["ordered"]
    assert receiver.log_records[0].trace_id == receiver.spans[0].trace_id
    assert list(receiver.last("orders").values()) == [3]
    assert list(receiver.last("returns").values()) == [1]


class _Langfuse(ThreadingHTTPServer):
    """Accepts what langfuse sends, and keeps the bodies."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _LangfuseHandler)
        self.bodies: list[bytes] = []


class _LangfuseHandler(BaseHTTPRequestHandler):
    server: _Langfuse

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@contextmanager
def _serving(server: _Langfuse) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("order", ["langfuse first", "chatscope first"])
def test_langfuse_and_the_receiver_both_get_the_spans(
    environment: Environment, receiver: Receiver, order: str
) -> None:
    (environment.folder / "with_langfuse.py").write_text(_LANGFUSE)
    with _Langfuse() as langfuse, _serving(langfuse):
        url = f"http://127.0.0.1:{langfuse.server_port}"
        with environment.running(
            receiver.endpoint, "python", "with_langfuse.py", url, order,
            LANGFUSE_OTEL_COMPRESSION="none",
        ) as process:  # fmt: skip
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output
    refused = "call configure(use_existing_providers=True)" in output
    assert refused == (order == "langfuse first")
    assert [span.name for span in receiver.spans] == ["generate", "order"]
    [record] = receiver.log_records
    assert record.trace_id == receiver.spans[0].trace_id
    resources = (*(span.resource for span in receiver.spans), record.resource)
    assert {resource["service.name"] for resource in resources} == {"shop"}
    assert [body for body in langfuse.bodies if b"generate" in body]
