"""configure() and instrument(): once, in time, with clear errors."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import chatscope
from chatscope import InstrumentationError, SettingsError, Telemetry, TelemetrySettings, instrument
from chatscope.providers import SHUTDOWN_SECONDS, Providers
from chatscope.settings import load_settings, variables
from stack.facts import ROOT
from tests.memory import Memory
from tests.receiver import Receiver


async def _item(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.path_params["id"])


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def telemetry(memory: Memory) -> Iterator[Telemetry]:
    telemetry = Telemetry(TelemetrySettings(), memory.providers)
    yield telemetry
    telemetry.shutdown()


def _run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_second_call_changes_nothing_and_warns(
    telemetry: Telemetry, memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    app = Starlette(routes=[Route("/items/{id}", _item)])
    assert instrument(app, telemetry) is app
    assert instrument(app, telemetry) is app
    with TestClient(app) as client:
        client.get("/items/1")
    assert [span.name for span in memory.spans] == ["GET /items/{id}"]
    assert [each for each in caplog.messages if "instrumented already" in each]


def test_application_and_its_sub_application_make_one_span(
    telemetry: Telemetry, memory: Memory
) -> None:
    inner = instrument(Starlette(routes=[Route("/items/{id}", _item)]), telemetry)
    outer = instrument(Starlette(routes=[Mount("/api", app=inner)]), telemetry)
    with TestClient(outer) as client:
        assert client.get("/api/items/1").status_code == 200
    assert [span.name for span in memory.spans] == ["GET /api/items/{id}"]


def test_running_application_is_refused_at_once(telemetry: Telemetry) -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        instrument(app, telemetry)
        yield

    with (
        pytest.raises(InstrumentationError, match="has started: call instrument"),
        TestClient(Starlette(lifespan=lifespan)),
    ):
        pass


def test_flush_at_the_end_leaves_the_shutdown_less_time(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers let an application end, then end the process: both take five seconds at most."""
    left: list[float] = []

    def flush(_: Providers, seconds: float) -> bool:
        time.sleep(seconds)
        return False

    def shutdown(_: Providers, seconds: float) -> bool:
        left.append(seconds)
        return False

    monkeypatch.setattr(Providers, "flush", flush)
    monkeypatch.setattr(Providers, "shutdown", shutdown)
    telemetry.start()
    telemetry.flush_last(0.3)
    telemetry.shutdown()
    assert 4.0 < left[0] <= SHUTDOWN_SECONDS - 0.3


def test_what_is_not_callable_is_refused() -> None:
    with pytest.raises(InstrumentationError, match="5 is not an ASGI application"):
        instrument(5)
    with pytest.raises(InstrumentationError, match="Starlette'> is not an ASGI application"):
        instrument(Starlette)


@pytest.mark.anyio
async def test_application_without_a_framework_is_wrapped(
    telemetry: Telemetry, memory: Memory
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    wrapped = instrument(app, telemetry)
    assert wrapped is not app
    assert instrument(wrapped, telemetry) is wrapped
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], "query_string": b""}
    await wrapped({**scope, "asgi": {}, "client": None, "server": ("x", 80)}, _nothing, send)
    assert sent[0]["status"] == 204
    assert [span.name for span in memory.spans] == ["GET"]


async def _nothing() -> Any:
    return {"type": "http.request"}


@pytest.mark.anyio
async def test_application_without_a_lifespan_ends_with_a_flush(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no lifespan")

    flushed: list[float] = []
    monkeypatch.setattr(telemetry, "flush_last", flushed.append)
    events = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[str] = []

    async def receive() -> Any:
        return {"type": next(events)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await instrument(app, telemetry)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert len(flushed) == 1


def test_failed_startup_is_reported_before_the_server_knows(
    telemetry: Telemetry, memory: Memory
) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        raise LookupError("no database")
        yield

    app = instrument(Starlette(lifespan=lifespan), telemetry)
    with pytest.raises(LookupError), TestClient(app):
        pass
    record = memory.log("application startup failed").log_record
    assert (record.attributes or {})["exception.message"] == "no database"
    assert record.severity_text == "ERROR"


def test_record_of_the_server_has_the_trace_of_the_request(
    telemetry: Telemetry, memory: Memory
) -> None:
    async def broken(_: Request) -> PlainTextResponse:
        raise LookupError("a bug")

    app = instrument(Starlette(routes=[Route("/", broken)]), telemetry)

    async def server(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except LookupError:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application")

    TestClient(server).get("/")
    context = memory.span("GET /").context
    record = memory.log("Exception in ASGI application").log_record
    assert context is not None
    assert (record.trace_id, record.span_id) == (context.trace_id, context.span_id)


def test_all_problems_are_reported_at_once() -> None:
    environ = {
        "OTEL_BSP_SCHEDULE_DELAY": "soon",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "udp",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-1",
        "OTEL_TRACES_SAMPLER": "sometimes",
        "CHATSCOPE_LOG_LEVEL": "LOUD",
        "CHATSCOPE_QUIET_PATHS": "healthz",
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, span_queue=0, colour="red")
    problems = caught.value.problems
    assert len(problems) == len(environ) + 2
    for name in (*environ, "span_queue", "colour"):
        assert any(name in problem for problem in problems), name
    assert (
        "OTEL_BSP_SCHEDULE_DELAY must be a whole number of milliseconds from 1 to 3600000"
        " (got 'soon')" in problems
    )


def test_settings_are_read_from_the_environment_and_options_win() -> None:
    environ = {
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "CHATSCOPE_QUIET_PATHS": "/ping, /up",
        "CHATSCOPE_EVENT_LOOP_METRICS": "true",
        "CHATSCOPE_LOG_LEVEL": "debug",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
        "CHATSCOPE_PREFIX": "",
    }
    settings = load_settings(environ, span_delay_ms=70)
    assert settings == TelemetrySettings(
        service_name="shop",
        span_delay_ms=70,
        quiet_paths=frozenset({"/ping", "/up"}),
        event_loop_metrics=True,
        log_level="DEBUG",
        capture_content=True,
    )


@pytest.mark.slow
def test_option_is_a_value_or_a_text() -> None:
    read = load_settings({}, spool_dir="/tmp", log_level="debug", quiet_paths="/a, /b")  # noqa: S108
    assert read == load_settings(
        {},
        spool_dir=Path("/tmp"),  # noqa: S108
        log_level="DEBUG",
        quiet_paths=frozenset({"/a", "/b"}),
    )
    for empty in ("spool_dir", "log_level", "service_name"):
        with pytest.raises(SettingsError, match=empty):
            load_settings({}, **{empty: ""})


def test_settings_made_by_hand_are_validated_as_well() -> None:
    version: Any = 1.2
    with pytest.raises(SettingsError) as caught:
        TelemetrySettings(log_level="loud", span_queue=0, service_version=version)
    assert [each.partition(" ")[0] for each in caught.value.problems] == [
        "span_queue",
        "log_level",
        "service_version",
    ]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_PROPAGATORS", "tracecontext,pigeon"),
        ("OTEL_PYTHON_TRACER_PROVIDER", "pigeon"),
        ("OTEL_PYTHON_METER_PROVIDER", "pigeon"),
        ("OTEL_PYTHON_LOGGER_PROVIDER", "pigeon"),
    ],
)
def test_parts_that_are_not_installed_are_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable} must be .*pigeon"):
        load_settings({variable: value})
    load_settings({"OTEL_PROPAGATORS": "none", "OTEL_PYTHON_METER_PROVIDER": "sdk_meter_provider"})


def test_invalid_variables_are_reported_before_the_sdk_is_imported() -> None:
    code = """
import sys, chatscope
try:
    chatscope.configure()
except chatscope.SettingsError as error:
    print(error)
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = _run(code, OTEL_ATTRIBUTE_COUNT_LIMIT="many", OTEL_BLRP_MAX_QUEUE_SIZE="0")
    assert done.stdout.splitlines() == [
        "OTEL_BLRP_MAX_QUEUE_SIZE must be a whole number from 1 to 10000000 (got '0')",
        "OTEL_ATTRIBUTE_COUNT_LIMIT must be a whole number from 0 to 2147483647 (got 'many')",
        "[]",
    ]


@pytest.mark.slow
def test_configuring_twice_warns_once_and_changes_no_variable() -> None:
    code = """
import os, chatscope
before = dict(os.environ)
one = chatscope.configure(endpoint="http://127.0.0.1:9")
assert chatscope.configure(service_name="other") is one
assert chatscope.configure() is one
assert dict(os.environ) == before
assert one.settings.service_name is None
chatscope.shutdown(0.5)
"""
    done = _run(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("configure() was called before") == 1


@pytest.mark.slow
@pytest.mark.parametrize("existing", [False, True])
def test_configuring_after_the_shutdown_is_refused(existing: bool) -> None:
    done = _run(
        f"""
import chatscope
chatscope.configure(endpoint="http://127.0.0.1:9")
chatscope.shutdown(0.1)
try:
    chatscope.configure(use_existing_providers={existing})
except chatscope.ProvidersExistError as error:
    print(error)
"""
    )
    assert "cannot be called after shutdown()" in done.stdout, done.stderr


def test_providers_of_another_library_are_refused_or_used() -> None:
    code = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
import chatscope
theirs = TracerProvider()
trace.set_tracer_provider(theirs)
metrics.set_meter_provider(MeterProvider())
try:
    chatscope.configure(endpoint="http://127.0.0.1:9")
except chatscope.ProvidersExistError as error:
    print(error)
telemetry = chatscope.configure(endpoint="http://127.0.0.1:9", use_existing_providers=True)
trace.get_tracer("theirs").start_span("one").end()
metrics.get_meter("theirs").create_counter("one").add(1)
assert telemetry.providers.tracer_provider is theirs
telemetry.flush(1.0)
print([pipeline.statistics.started for pipeline in telemetry.providers.delivery.pipelines.values()])
chatscope.shutdown(0.5)
"""
    done = _run(code)
    assert done.returncode == 0, done.stderr
    message, started = done.stdout.splitlines()
    assert "opentelemetry.sdk.trace.TracerProvider, set by another library" in message
    assert "use_existing_providers=True" in message
    assert started.startswith("[1, ")


@pytest.mark.parametrize(
    ("option", "name"), [('service_name="shop", ', "shop"), ("", "theirs")], ids=["given", "theirs"]
)
def test_all_signals_name_one_service_beside_a_provider_of_another_library(
    option: str, name: str
) -> None:
    code = f"""
import logging
from opentelemetry import metrics, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
import chatscope
trace.set_tracer_provider(TracerProvider(resource=Resource.create({{"service.name": "theirs"}})))
chatscope.configure({option}use_existing_providers=True)
with trace.get_tracer("theirs").start_as_current_span("one"):
    logging.getLogger("shop").warning("one")
metrics.get_meter("theirs").create_counter("one").add(1)
"""
    with Receiver() as receiver:
        done = _run(code, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        assert done.returncode == 0, done.stderr
        [span] = receiver.spans
        [record] = receiver.log_records
        metrics = {point.resource["service.name"] for point in receiver.metric_points}
    assert (span.resource["service.name"], record.resource["service.name"]) == (name, name)
    assert span.resource["service.instance.id"] == record.resource["service.instance.id"]
    assert metrics == {name}


def test_public_names_are_those_documented() -> None:
    assert sorted(chatscope.__all__) == chatscope.__all__
    for name in chatscope.__all__:
        assert getattr(chatscope, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        chatscope.nothing  # noqa: B018


def test_variables_are_documented() -> None:
    text = (ROOT / "docs" / "your-service.md").read_text()
    for variable, meaning, accepts, _ in variables():
        [row] = [line for line in text.splitlines() if line.startswith(f"| `{variable}`")]
        assert meaning.rstrip(".") in row, variable
        assert accepts in row, variable
