"""HTTP telemetry of a Starlette application, by either middleware: spans, metrics, trace ID."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry.instrumentation._semconv import (
    _OpenTelemetrySemanticConventionStability as _Selection,
)
from opentelemetry.instrumentation._semconv import (
    _OpenTelemetryStabilitySignalType as _Signal,
)
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from chatscope import Telemetry, instrument
from chatscope.providers import TelemetrySettings
from chatscope.tracing import current_trace_id
from chatscope.tracing import span as start_span
from tests.memory import Memory

_BACKGROUND_SECONDS = 0.5
_SLOW_SECONDS = 0.2
_work_ended: list[int] = []


async def _item(request: Request) -> PlainTextResponse:
    with start_span("look up"):
        return PlainTextResponse(f"{request.path_params['id']} {current_trace_id()}")


async def _query(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.url.query)


async def _stream(_: Request) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x"

    return StreamingResponse(chunks())


async def _background(_: Request) -> PlainTextResponse:
    return PlainTextResponse("x", background=BackgroundTask(_work))


async def _work() -> None:
    await asyncio.sleep(_BACKGROUND_SECONDS)
    _work_ended.append(time.time_ns())


async def _slow(_: Request) -> PlainTextResponse:
    await asyncio.sleep(_SLOW_SECONDS)
    return PlainTextResponse("x")


async def _broken(_: Request) -> PlainTextResponse:
    raise RuntimeError("a bug")


def _application() -> Starlette:
    nested = [Route("/items/{id}", _item)]
    return Starlette(
        routes=[
            Route("/items/{id}", _item),
            Route("/query", _query),
            Route("/healthz", _query),
            Route("/background", _background),
            Route("/slow", _slow),
            Route("/stream", _stream),
            Route("/broken", _broken),
            Mount("/api", routes=nested),
        ]
    )


@pytest.fixture
def memory() -> Memory:
    return Memory()


_OURS = TelemetrySettings()
_STOCK = TelemetrySettings(http_instrumentation="stock")


@pytest.fixture(params=[_OURS, _STOCK], ids=["chatscope", "stock"])
def client(memory: Memory, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    app = _application()
    instrument(app, Telemetry(request.param, memory.providers))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_route_template_is_on_span_and_metric(client: TestClient, memory: Memory) -> None:
    client.get("/items/42")
    span = memory.span("GET /items/{id}")
    assert span.kind is SpanKind.SERVER
    assert (span.attributes or {})["http.route"] == "/items/{id}"
    assert (span.attributes or {})["http.response.status_code"] == 200
    assert memory.value("http.server.request.duration", http__route="/items/{id}") == 1


def test_route_template_goes_through_mounts(client: TestClient, memory: Memory) -> None:
    client.get("/api/items/42")
    assert memory.span("GET /api/items/{id}")


@pytest.mark.parametrize(
    "selection",
    ["", "http", "http/dup", "database", "database/dup", "gen_ai_latest_experimental", "nonsense"],
)
def test_stable_conventions_whatever_the_environment_selects(
    selection: str, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Selection, "_initialized", False)
    monkeypatch.setattr(_Selection, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", {})
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", selection)
    before = dict(os.environ)
    app = _application()
    instrument(app, Telemetry(_STOCK, memory.providers))
    with TestClient(app) as client:
        assert client.get("/items/42").status_code == 200
    assert (memory.span("GET /items/{id}").attributes or {})["http.request.method"] == "GET"
    assert memory.value("http.server.request.duration") == 1
    assert memory.points("http.server.duration") == []
    assert [point.value for point in memory.points("http.server.active_requests")] == [0]
    assert os.environ == before
    # Other instrumentations of the process use what the operator selected.
    mode = _Selection._get_opentelemetry_stability_opt_in_mode(_Signal.HTTP)
    assert mode.value == (selection if selection in ("http", "http/dup") else "default")


def test_changed_library_is_noticed_at_startup(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Selection, "_get_opentelemetry_stability_opt_in_mode", lambda _: None)
    app = _application()
    instrument(app, Telemetry(_STOCK, memory.providers))
    with pytest.raises(RuntimeError, match="selects its HTTP conventions differently"):
        app.build_middleware_stack()


def test_unknown_path_makes_no_new_name(client: TestClient, memory: Memory) -> None:
    client.get("/nobody/knows/this")
    assert "http.route" not in (memory.span("GET").attributes or {})


def test_wrong_method_still_names_its_route(client: TestClient, memory: Memory) -> None:
    client.delete("/items/42")
    assert (memory.span("DELETE /items/{id}").attributes or {})["http.response.status_code"] == 405


def test_stream_of_fifty_chunks_is_one_span(client: TestClient, memory: Memory) -> None:
    assert len(client.get("/stream").content) == 50
    assert [span.name for span in memory.spans] == ["GET /stream"]


def test_unhandled_exception_is_a_500_on_span_and_metric(
    client: TestClient, memory: Memory
) -> None:
    assert client.get("/broken").status_code == 500
    span = memory.span("GET /broken")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["http.response.status_code"] == 500
    assert (span.attributes or {})["error.type"] == "RuntimeError"
    [event] = span.events
    assert (event.attributes or {})["exception.message"] == "a bug"
    counted = memory.value(
        "http.server.request.duration",
        http__response__status_code=500,
        error__type="RuntimeError",
    )
    assert counted == 1


def test_answer_tells_its_trace(client: TestClient, memory: Memory) -> None:
    response = client.get("/items/42")
    assert response.headers["x-trace-id"] == response.text.split()[1]
    context = memory.span("GET /items/{id}").context
    assert context is not None
    assert response.headers["x-trace-id"] == f"{context.trace_id:032x}"


def test_error_answers_tell_their_trace_too(client: TestClient) -> None:
    assert len(client.get("/nobody").headers["x-trace-id"]) == 32


def test_steps_are_children_of_the_request(client: TestClient, memory: Memory) -> None:
    client.get("/items/42")
    child, parent = memory.span("look up"), memory.span("GET /items/{id}")
    assert child.parent is not None
    assert parent.context is not None
    assert child.parent.span_id == parent.context.span_id


def test_query_reaches_the_application_and_no_span(client: TestClient, memory: Memory) -> None:
    assert client.get("/query?token=secret").text == "token=secret"
    assert "secret" not in memory.span("GET /query").to_json()


def test_response_size_is_what_was_sent_stream_or_not(client: TestClient, memory: Memory) -> None:
    client.get("/query?abc")
    client.get("/stream")
    sizes = memory.metrics()["http.server.response.body.size"].data.data_points
    found = {(point.attributes or {})["http.route"]: point.sum for point in sizes}  # type: ignore[union-attr]
    assert found == {"/query": 3, "/stream": 50}


def test_server_is_the_one_that_the_client_asked_for(client: TestClient, memory: Memory) -> None:
    client.get("/query", headers={"host": "shop.example"})
    client.get("/query", headers={"host": "shop.example:8443"})
    found = [
        ((span.attributes or {})["server.address"], (span.attributes or {})["server.port"])
        for span in memory.spans
    ]
    assert found == [("shop.example", 80), ("shop.example", 8443)]


def test_made_up_method_makes_no_new_name(client: TestClient, memory: Memory) -> None:
    client.request("BREW", "/nowhere")
    assert memory.span("HTTP")


def test_background_work_is_in_neither_span_nor_metric(client: TestClient, memory: Memory) -> None:
    client.get("/background")
    span = memory.span("GET /background")
    assert span.start_time
    assert span.end_time
    [point] = memory.metrics()["http.server.request.duration"].data.data_points
    in_all = (_work_ended[-1] - span.start_time) / 1e9
    # All but the sleep, with room for two clocks that tick apart.
    without_work = in_all - _BACKGROUND_SECONDS * 0.9
    assert (span.end_time - span.start_time) / 1e9 < without_work
    assert point.sum < without_work  # type: ignore[union-attr]


def test_long_answers_have_buckets_of_their_own(client: TestClient, memory: Memory) -> None:
    client.get("/stream")
    metric = memory.metrics()["http.server.request.duration"]
    assert max(metric.data.data_points[0].explicit_bounds) > 100  # type: ignore[union-attr]


def test_two_applications_in_one_process_do_not_mix(memory: Memory, client: TestClient) -> None:
    other_memory, other = Memory(), _application()
    instrument(other, Telemetry(_OURS, other_memory.providers))
    with TestClient(other) as other_client:
        client.get("/items/1")
        other_client.get("/items/2")
    assert [span.name for span in memory.spans] == ["look up", "GET /items/{id}"]
    assert [span.name for span in other_memory.spans] == ["look up", "GET /items/{id}"]


def test_health_check_makes_no_span_and_no_metric(client: TestClient, memory: Memory) -> None:
    assert client.get("/healthz").status_code == 200
    assert memory.spans == ()
    assert memory.points("http.server.request.duration") == []


def test_strangers_traceparent_joins_and_does_not_switch_off(
    client: TestClient, memory: Memory
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    client.get("/query", headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-00"})
    context = memory.span("GET /query").context
    assert context is not None
    assert f"{context.trace_id:032x}" == trace_id


def test_operators_sampler_has_its_standard_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    memory, app = Memory(), _application()
    instrument(app, Telemetry(_OURS, memory.providers))
    with TestClient(app) as client:
        client.get("/query")
    assert memory.spans == ()


def test_duration_is_its_own_not_the_one_before(client: TestClient, memory: Memory) -> None:
    client.get("/query")
    client.get("/slow")
    points = memory.metrics()["http.server.request.duration"].data.data_points
    [slow] = [p for p in points if (p.attributes or {})["http.route"] == "/slow"]
    assert slow.sum >= _SLOW_SECONDS  # type: ignore[union-attr]
