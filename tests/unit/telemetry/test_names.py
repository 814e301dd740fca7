"""The registry of names, held against what is really recorded."""

import re
import time

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from app.keys.budgets import Use
from chatscope import Telemetry, genai, instrument, names
from chatscope.genai.request import ModelRequest, Usage
from chatscope.names import METRICS, Kind, Metric
from chatscope.providers import TelemetrySettings
from chatscope.runtime import record_end
from stack.facts import ROOT
from tests.each import check_each
from tests.memory import Memory

_MODEL = "simulated-1"
_USAGE = Usage(3, 2, cache_read_tokens=1, cache_write_tokens=1, reasoning_tokens=1)


def _record_everything() -> Memory:
    """Drive an application through all that it can record."""

    async def answer(request: Request) -> PlainTextResponse:
        await request.body()
        telemetry.instruments.record_message("user")
        telemetry.instruments.show_limits({"answers": 5})
        telemetry.instruments.show_prices({_MODEL: True})
        telemetry.instruments.show_feedback([_MODEL])
        watched = telemetry.start_answer(
            ModelRequest(
                provider="simulated",
                model=_MODEL,
                stream=True,
                server_address="127.0.0.1",
                server_port=1,
            ),
            started=0.0,
        )
        for _ in range(2):
            watched.received("x")
            watched.sent()
        if request.query_params:
            watched.failed("timeout")
        else:
            watched.completed(
                finish_reason="stop", usage=_USAGE, response_id="r", response_model=_MODEL
            )
        watched.close()
        genai.use_recorder(telemetry.recorder)
        for failure in ("", "timeout"):
            with genai.embeddings(
                model=_MODEL, provider="simulated", server_address="127.0.0.1", server_port=1
            ) as vectors:
                vectors.response(tokens=1, model=_MODEL)
                if failure:
                    vectors.failed(failure)
            with genai.execute_tool("search") as tool, genai.invoke_agent("planner") as agent:
                if failure:
                    tool.failed(failure)
                    agent.failed(failure)
        genai.forget_recorder(telemetry.recorder)
        return PlainTextResponse("x", 500 if request.query_params else 200)

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    routes = [Route("/answer", answer, methods=["POST"]), WebSocketRoute("/echo", echo)]
    app, memory = Starlette(routes=routes), Memory()
    settings = TelemetrySettings(
        known_models=frozenset({_MODEL}), console=True, event_loop_metrics=True
    )
    telemetry = Telemetry(settings, memory.providers)
    instrument(app, telemetry)
    with TestClient(app) as client:
        telemetry.instruments.show_budgets(lambda: [Use("alice", "usd", 0.5, 1.0)])
        telemetry.instruments.show_shared_store(lambda: True)
        headers = {"x-ratelimit-limit-tokens": "9", "x-ratelimit-remaining-tokens": "7"}
        telemetry.instruments.record_rate_limits(headers, "openai", "gpt-4o")
        client.post("/answer", content=b"x")
        client.post("/answer?fail=1", content=b"x")
        with client.websocket_connect("/echo") as socket:
            socket.send_text("x")
            socket.receive_text()
        _wait_for_a_sample_of_lag(memory)
    record_end(telemetry.meter)
    for pipeline in memory.delivery.pipelines.values():
        pipeline.statistics.count_call(0.01, "")
        pipeline.statistics.count_call(0.01, "UNAVAILABLE")
        pipeline.statistics.count_exported(0, "UNAVAILABLE")
    return memory


def _wait_for_a_sample_of_lag(memory: Memory) -> None:
    for _ in range(300):
        if memory.points(names.EVENT_LOOP_LAG.name):
            return
        time.sleep(0.1)


@pytest.fixture(scope="module")
def memory() -> Memory:
    return _record_everything()


def test_metrics_are_recorded_as_the_registry_says(memory: Memory) -> None:
    metrics = memory.metrics()

    def check(metric: Metric) -> None:
        recorded = metrics.get(metric.name)
        assert recorded is not None
        assert (recorded.unit, recorded.description) == (metric.unit, metric.description)
        assert _kind(recorded.data) == metric.kind
        assert {name for point in recorded.data.data_points for name in point.attributes or ()} == (
            set(metric.attributes)
        )
        if metric.buckets:
            point = recorded.data.data_points[0]
            assert tuple(point.explicit_bounds) == metric.buckets  # type: ignore[union-attr]

    check_each({metric.name: metric for metric in METRICS}, check)


def test_nothing_is_recorded_that_the_registry_lacks(memory: Memory) -> None:
    assert set(memory.metrics()) <= {metric.name for metric in METRICS}


def _kind(data: object) -> Kind:
    kinds = {
        ("Sum", True): Kind.COUNTER,
        ("Sum", False): Kind.UP_DOWN_COUNTER,
        ("Histogram", None): Kind.HISTOGRAM,
        ("Gauge", None): Kind.GAUGE,
    }
    return kinds[type(data).__name__, getattr(data, "is_monotonic", None)]


@pytest.mark.parametrize(
    ("metric", "spelling"),
    [
        (names.SOCKET_CONNECTIONS, "socket_connections"),
        (names.MESSAGE_COUNT, "message_count_total"),
        (names.LLM_RESPONSE_TIME, "llm_response_time_seconds"),
        (names.LLM_TOKEN_USAGE, "llm_token_usage_total"),
        (names.LLM_COST, "llm_cost_total"),
        (names.HTTP_REQUEST_BODY_SIZE, "http_server_request_body_size_bytes"),
        (names.PROCESS_CPU_TIME, "process_cpu_time_seconds_total"),
    ],
)
def test_prometheus_spelling(metric: Metric, spelling: str) -> None:
    assert metric.prometheus == spelling


def test_no_name_is_typed_twice() -> None:
    """Names of the registry stand in names.py only, not in the rest of the application."""
    words = {metric.name for metric in METRICS if "." in metric.name or "_" in metric.name}
    words |= {
        value
        for key, value in vars(names).items()
        if key.isupper() and isinstance(value, str) and "." in value
    }
    # A library of its own; and rules, whose one name names.py has from there.
    others = [ROOT / "chatscope" / name for name in ("otlp", "redaction")]
    for source in (*(ROOT / "app").rglob("*.py"), *(ROOT / "chatscope").rglob("*.py")):
        if source.name == "names.py" or any(map(source.is_relative_to, others)):
            continue
        typed = set(re.findall(r'"([a-z_.]+)"', source.read_text())) & words
        assert not typed, f"{source}: take {typed} from names.py"
