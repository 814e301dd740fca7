"""WebSocket telemetry of any Starlette application."""

import asyncio
import contextvars
from collections.abc import Iterator
from typing import Any, cast

import pytest
from loguru import logger
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from chatscope import Telemetry, instrument, names
from chatscope.instruments import Instruments
from chatscope.logs.bridge import Bridge
from chatscope.logs.own import ExportedLog
from chatscope.providers import TelemetrySettings
from chatscope.websocket import SocketConnection, socket_connection
from tests.memory import Memory


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    connection = socket_connection(websocket.scope)
    try:
        while True:
            text = await websocket.receive_text()
            with connection.turn("message"):
                logger.info("echoing")
                await websocket.send_text(text)
    except WebSocketDisconnect:
        logger.info("gone")


async def _refuse(websocket: WebSocket) -> None:
    await websocket.close()


async def _deny(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("full", 503))


async def _broken(websocket: WebSocket) -> None:
    raise RuntimeError("a bug")


async def _closes(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close(4321)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def client(memory: Memory) -> Iterator[TestClient]:
    routes = [
        WebSocketRoute("/echo/{room}", _echo),
        WebSocketRoute("/refuse", _refuse),
        WebSocketRoute("/deny", _deny),
        WebSocketRoute("/broken", _broken),
        WebSocketRoute("/closes", _closes),
    ]
    app = Starlette(routes=routes)
    instrument(app, Telemetry(TelemetrySettings(), memory.providers))
    with TestClient(app) as client:
        yield client


def _chat(client: TestClient, *texts: str) -> None:
    with client.websocket_connect("/echo/blue") as socket:
        for text in texts:
            socket.send_text(text)
            assert socket.receive_text() == text


def test_handshake_span_ends_at_the_accept(client: TestClient, memory: Memory) -> None:
    with client.websocket_connect("/echo/blue") as socket:
        socket.send_text("hello")
        socket.receive_text()
        span = memory.span("GET /echo/{room}")
    assert span.kind is SpanKind.SERVER
    assert (span.attributes or {})["http.response.status_code"] == 101
    assert (span.attributes or {})["http.route"] == "/echo/{room}"


def test_spans_hold_the_connection(client: TestClient, memory: Memory) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"traceparent": parent, "user-agent": "tests/1"}
    with client.websocket_connect("/echo/blue", headers=headers) as socket:
        socket.send_text("x")
        socket.receive_text()
    handshake, message = memory.span("GET /echo/{room}"), memory.span("message /echo/{room}")
    assert handshake.parent is not None
    assert f"{handshake.parent.trace_id:032x}-{handshake.parent.span_id:016x}" in parent
    attributes = dict(handshake.attributes or {})
    connection = {names.CONNECTION_ID: attributes[names.CONNECTION_ID]}
    assert attributes == {
        **connection,
        "http.request.method": "GET",
        "http.route": "/echo/{room}",
        "http.response.status_code": 101,
        "url.path": "/echo/blue",
        "url.scheme": "ws",
        "network.protocol.name": "websocket",
        "client.address": "testclient",
        "user_agent.original": "tests/1",
    }
    assert message.attributes == {
        **connection,
        "http.route": "/echo/{room}",
        "network.protocol.name": "websocket",
    }
    assert message.kind is SpanKind.SERVER


def test_opening_and_closing_are_logged(client: TestClient, memory: Memory) -> None:
    _chat(client, "one")
    memory.log("socket opened")
    attributes = memory.log("socket closed").log_record.attributes or {}
    assert attributes[names.CLOSE_CODE] == 1000
    assert attributes["seconds"] == round(float(str(attributes["seconds"])), 3)


def test_metrics_of_a_connection_lead_to_its_handshake(client: TestClient, memory: Memory) -> None:
    _chat(client, "one")
    context = memory.span("GET /echo/{room}").context
    assert context is not None
    exemplars = memory.exemplars()
    for name in (
        "socket_connections",
        names.WEBSOCKET_DURATION.name,
        names.WEBSOCKET_MESSAGES.name,
    ):
        assert exemplars[name] == {f"{context.trace_id:032x}"}, name


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([{"type": "websocket.close"}], "1000"),
        ([{"type": "websocket.close", "code": 1001}], "1001"),
        ([], "1006"),
    ],
)
def test_close_code_is_the_standards_default_where_none_is_given(
    memory: Memory, messages: list[dict[str, object]], code: str
) -> None:
    tracer = memory.providers.tracer_provider.get_tracer("test")
    instruments = Instruments(memory.providers.meter_provider.get_meter("test"))
    scope = {"type": "websocket", "path": "/ws", "headers": []}
    log = ExportedLog(Bridge(memory.providers.logger_provider), "test")
    connection = SocketConnection(scope, lambda _: "/ws", tracer, instruments, log)
    connection.saw_sent({"type": "websocket.accept"})
    for message in messages:
        connection.saw_sent(message)
    connection.finish()
    [point] = memory.points(names.WEBSOCKET_DURATION.name)
    assert point.attributes[names.CLOSE_CODE] == code


def test_each_message_is_a_new_trace_linked_to_the_handshake(
    client: TestClient, memory: Memory
) -> None:
    _chat(client, "one", "two")
    handshake = memory.span("GET /echo/{room}")
    turns = [span for span in memory.spans if span.name == "message /echo/{room}"]
    assert handshake.context is not None
    assert len(turns) == 2
    for turn in turns:
        assert turn.parent is None
        assert [link.context.span_id for link in turn.links] == [handshake.context.span_id]
    traces = {span.context.trace_id for span in (handshake, *turns) if span.context}
    assert len(traces) == 3


def test_one_connection_id_is_on_spans_and_logs_and_on_no_metric(
    client: TestClient, memory: Memory
) -> None:
    _chat(client, "one")
    ids = {(span.attributes or {})[names.CONNECTION_ID] for span in memory.spans}
    lines = [r.log_record for r in memory.logs if r.log_record.body in ("echoing", "socket closed")]
    ids |= {(line.attributes or {})[names.CONNECTION_ID] for line in lines}
    assert len(ids) == 1
    assert not any(
        names.CONNECTION_ID in point.attributes
        for name in memory.metrics()
        for point in memory.points(name)
    )


def test_log_of_a_message_is_in_its_trace_and_the_rest_in_the_handshakes(
    client: TestClient, memory: Memory
) -> None:
    _chat(client, "one")
    turn, handshake = memory.span("message /echo/{room}"), memory.span("GET /echo/{room}")
    assert turn.context is not None
    assert handshake.context is not None
    assert memory.log("echoing").log_record.trace_id == turn.context.trace_id
    assert memory.log("gone").log_record.trace_id == handshake.context.trace_id
    assert memory.log("socket closed").log_record.trace_id == handshake.context.trace_id


def test_connections_are_counted_up_and_down(client: TestClient, memory: Memory) -> None:
    with client.websocket_connect("/echo/blue") as socket:
        socket.send_text("x")
        socket.receive_text()
        assert memory.value("socket_connections") == 1
    assert memory.value("socket_connections") == 0


def test_messages_are_counted_in_each_direction(client: TestClient, memory: Memory) -> None:
    _chat(client, "one", "two", "three")
    name = names.WEBSOCKET_MESSAGES.name
    assert memory.value(name, network__io__direction="receive") == 3
    assert memory.value(name, network__io__direction="transmit") == 3


def test_length_is_recorded_with_the_close_code(client: TestClient, memory: Memory) -> None:
    _chat(client, "one")
    assert [p.attributes for p in memory.points(names.WEBSOCKET_DURATION.name)] == [
        {names.HTTP_ROUTE: "/echo/{room}", names.CLOSE_CODE: "1000"}
    ]


def test_close_code_outside_the_standard_is_other(client: TestClient, memory: Memory) -> None:
    with client.websocket_connect("/closes") as socket, pytest.raises(WebSocketDisconnect):
        socket.receive_text()
    [point] = memory.points(names.WEBSOCKET_DURATION.name)
    assert point.attributes[names.CLOSE_CODE] == names.OTHER


def test_refused_handshake_is_a_403_and_no_connection(client: TestClient, memory: Memory) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/refuse"):
        pass
    assert (memory.span("GET /refuse").attributes or {})["http.response.status_code"] == 403
    assert memory.points("socket_connections") == []
    assert memory.points(names.WEBSOCKET_DURATION.name) == []


def test_bug_before_the_accept_is_a_500(client: TestClient, memory: Memory) -> None:
    with pytest.raises(RuntimeError), client.websocket_connect("/broken"):
        pass
    span = memory.span("GET /broken")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["http.response.status_code"] == 500
    assert (span.attributes or {})["error.type"] == "500"
    [event] = span.events
    assert (event.attributes or {})["exception.type"] == "RuntimeError"


def test_denied_handshake_has_the_status_of_its_response(
    client: TestClient, memory: Memory
) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/deny"):
        pass
    assert (memory.span("GET /deny").attributes or {})["http.response.status_code"] == 503


def test_stock_middleware_makes_no_span_of_a_connection(client: TestClient, memory: Memory) -> None:
    _chat(client, "one")
    assert sorted(span.name for span in memory.spans) == [
        "GET /echo/{room}",
        "message /echo/{room}",
    ]


def test_abandoned_connection_ends_without_a_message(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry(TelemetrySettings(), memory.providers)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send"})

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            await asyncio.sleep(0)

    served = cast(Any, instrument(app, telemetry))
    running = served({"type": "websocket", "path": "/x", "headers": []}, None, send)
    contextvars.copy_context().run(running.send, None)
    running.close()  # as the garbage collector does
    telemetry.shutdown()
    assert caplog.messages == []
    assert [each.log_record.body for each in memory.logs] == ["socket opened", "socket closed"]
