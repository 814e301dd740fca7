"""The HTTP middleware around plain ASGI applications."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from chatscope import http_attributes, names
from chatscope.asgi import HttpTelemetry
from chatscope.direct_spans import DirectSpan, DirectTracer
from chatscope.guard import containing_errors
from chatscope.http_metrics import HttpMetrics, _Values
from tests.memory import Memory

Message = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]

_START: Message = {"type": "http.response.start", "status": 200, "headers": []}
_BODY: Message = {"type": "http.response.body", "body": b"ok"}


async def _ok(scope: Any, receive: Any, send: Any) -> None:
    await send(_START)
    await send(_BODY)


def _route(_: Any) -> str:
    return "/r"


def _around(app: App, memory: Memory, *, tallied: bool = True) -> HttpTelemetry:
    meter = memory.providers.meter_provider.get_meter("test")
    metrics = HttpMetrics(meter, memory.tallies if tallied else None)
    tracer = DirectTracer.of(memory.providers.tracer_provider, "test")
    return HttpTelemetry(app, _route, tracer, metrics)


def _scope(**changes: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/r",
        "http_version": "1.1",
        "headers": [(b"host", b"shop.example")],
        **changes,
    }


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _discard(_: Any) -> None:
    pass


async def _call(app: App, **changes: Any) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope(**changes), _receive, send)
    return sent


def _serve(app: App, **changes: Any) -> list[Message]:
    return asyncio.run(_call(app, **changes))


def _active(memory: Memory) -> list[float]:
    return [point.value for point in memory.points(names.HTTP_ACTIVE_REQUESTS.name)]


def test_exception_is_on_the_span_also_after_an_error_response(memory: Memory) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**_START, "status": 500})
        await send(_BODY)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _serve(_around(app, memory))
    span = memory.span("GET /r")
    [event] = span.events
    assert (event.attributes or {})["exception.type"] == "ZeroDivisionError"
    assert "exception.stacktrace" in (event.attributes or {})
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "500"


def test_error_type_is_the_exception_without_an_error_response(memory: Memory) -> None:
    class ShopError(Exception):
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ShopError("secret")

    with pytest.raises(ShopError):
        _serve(_around(app, memory))
    span = memory.span("GET /r")
    assert str((span.attributes or {})["error.type"]).endswith("ShopError")
    assert span.status.description is None


@pytest.mark.parametrize("broken", ["tracer", "find_route", "metrics"])
def test_error_of_telemetry_fails_no_request(
    broken: str, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = _around(_ok, memory)
    monkeypatch.setattr(app, broken, None)
    with containing_errors():
        sent = _serve(app)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    # Without a tracer or metrics no span can begin; otherwise it ends all the same.
    assert len(memory.spans) == (broken == "find_route")


def test_active_requests_end_although_recording_fails(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = _around(_ok, memory)
    monkeypatch.setattr(app.metrics, "record", None)
    with containing_errors():
        _serve(app)
    assert _active(memory) == [0]
    assert len(memory.spans) == 1


@pytest.mark.parametrize(
    "scope",
    [
        {"headers": [(b"\xff", b"\xff"), (b"host", b"\xff"), (b"content-length", b"\xb2")]},
        {"headers": [[b"host", b"a"]], "client": ["::1", 5], "server": None},
        {"method": "X" * 10_000, "scheme": "gopher", "http_version": "9"},
        {"headers": [(b"host", b"a" * 60_000)]},
        {"headers": [(b"host", b"[::1")]},
        {"headers": [(b"traceparent", b"\xff"), (b"tracestate", b"="), (b"baggage", b"=;,")]},
    ],
)
def test_unusual_request_has_a_span(scope: dict[str, Any], memory: Memory) -> None:
    _serve(_around(_ok, memory), **scope)
    [span] = memory.spans
    assert all(len(str(value)) < 300 for value in (span.attributes or {}).values())


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        (b"[::1]", "::1", 80),
        (b"[::1]:8080", "::1", 8080),
        (b"shop:99999", "shop", None),
        *((host, None, None) for host in (b"[::1", b"::1", b"[", b"::1]:80", b"a:b:80", b":")),
    ],
)
def test_malformed_host_is_not_recorded(host: bytes, address: str | None, port: int | None) -> None:
    found = http_attributes.server_attributes({"scheme": "http"}, {b"host": host})
    assert (found.get("server.address"), found.get("server.port")) == (address, port)


def test_messages_of_the_application_are_not_changed(memory: Memory) -> None:
    app = _around(_ok, memory)
    first, second = _serve(app)[0], _serve(app)[0]
    assert _START["headers"] == []
    assert len(first["headers"]) == len(second["headers"]) == 1
    assert first["headers"] != second["headers"]


def test_trace_id_of_the_application_itself_is_replaced(memory: Memory) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**_START, "headers": [(b"x-trace-id", b"of a backend"), (b"a", b"b")]})
        await send(_BODY)

    headers = dict(_serve(_around(app, memory))[0]["headers"])
    context = memory.span("GET /r").context
    assert context is not None
    assert headers == {b"a": b"b", b"x-trace-id": f"{context.trace_id:032x}".encode()}


def test_chunk_of_a_stream_has_no_coroutine_of_its_own(memory: Memory) -> None:
    made: list[Coroutine[Any, Any, None]] = []
    found: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(_START)
        waiting = send({**_BODY, "more_body": True})
        found.append(waiting is made[-1])
        await waiting
        await send(_BODY)

    async def run() -> None:
        async def write(_: Message) -> None:
            pass

        def send(message: Any) -> Coroutine[Any, Any, None]:
            made.append(write(message))
            return made[-1]

        await _around(app, memory)(_scope(), _receive, send)

    asyncio.run(run())
    assert found == [True]
    [point] = memory.metrics()[names.HTTP_RESPONSE_BODY_SIZE.name].data.data_points
    assert point.sum == 4  # type: ignore[union-attr]


def test_request_is_active_until_its_response_has_ended(memory: Memory) -> None:
    seen: list[list[float]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(_active(memory))
        await _ok(scope, receive, send)
        seen.append(_active(memory))

    _serve(_around(app, memory))
    assert seen == [[1], [0]]


def test_span_is_current_inside_only_with_the_baggage_of_the_caller(memory: Memory) -> None:
    inside: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inside.append((trace.get_current_span().get_span_context(), baggage.get_baggage("shop")))
        await _ok(scope, receive, send)

    async def run() -> Any:
        await _call(_around(app, memory), headers=[(b"baggage", b"shop=blue")])
        return trace.get_current_span(), baggage.get_baggage("shop")

    after = asyncio.run(run())
    assert inside == [(memory.span("GET /r").context, "blue")]
    assert after == (trace.INVALID_SPAN, None)


def test_parts_of_a_divided_header_are_joined(memory: Memory) -> None:
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    divided = [(b"tracestate", b"a=1"), (b"traceparent", parent), (b"tracestate", b"b=2")]
    _serve(_around(_ok, memory), headers=divided)
    context = memory.span("GET /r").context
    assert context is not None
    assert context.trace_state.to_header() == "a=1,b=2"


def test_span_of_an_abandoned_request_ends_without_a_word(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    telemetry = _around(app, memory)

    async def begin() -> None:
        coroutine: Any = telemetry(_scope(), _receive, _discard)
        coroutine.send(None)
        # Closed in another context, as by the garbage collector.
        threading.Thread(target=coroutine.close).start()

    asyncio.run(begin())
    gc.collect()
    assert (memory.span("GET /r").attributes or {})["error.type"] == "cancelled"
    assert caplog.records == []
    assert _active(memory) == [0]


def test_cancelled_request_is_no_error(memory: Memory) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.create_task(_call(_around(app, memory)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    span = memory.span("GET /r")
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()
    assert (span.attributes or {})["error.type"] == "cancelled"


def test_requests_at_the_same_time_do_not_mix(memory: Memory) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        context = trace.get_current_span().get_span_context()
        await send({**_START, "headers": [(b"inside", f"{context.trace_id:032x}".encode())]})
        await asyncio.sleep(0)
        await send(_BODY)

    async def run() -> list[list[Message]]:
        around = _around(app, memory)
        return await asyncio.gather(*[_call(around) for _ in range(50)])

    found = [dict(sent[0]["headers"]) for sent in asyncio.run(run())]
    assert all(headers[b"inside"] == headers[b"x-trace-id"] for headers in found)
    assert len({headers[b"inside"] for headers in found}) == 50
    assert memory.value(names.HTTP_REQUEST_DURATION.name) == 50


def test_no_value_is_lost_while_metrics_are_collected(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = _around(_ok, memory)
    add = _Values.add

    def add_slowly(values: _Values, value: float, context: Any) -> None:
        time.sleep(0)  # let the other thread run
        add(values, value, context)

    monkeypatch.setattr(_Values, "add", add_slowly)
    ended = threading.Event()

    def collect() -> None:
        while not ended.is_set():
            memory.metrics()

    collector = threading.Thread(target=collect)
    collector.start()

    async def run() -> None:
        for _ in range(1000):
            await _call(app)

    asyncio.run(run())
    ended.set()
    collector.join()
    for name in (names.HTTP_REQUEST_DURATION.name, names.HTTP_RESPONSE_BODY_SIZE.name):
        assert memory.value(name) == 1000
    [point] = memory.metrics()[names.HTTP_RESPONSE_BODY_SIZE.name].data.data_points
    assert (point.sum, point.min, point.max) == (2000, 2, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize("tallied", [True, False])
def test_exemplar_is_a_sampled_request(tallied: bool, memory: Memory) -> None:
    body = b"ok"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(_START)
        await send({**_BODY, "body": body})

    around = _around(app, memory, tallied=tallied)
    _serve(around)
    body = b"ok!"  # in the same bucket
    trace_id = f"{memory.spans[0].context.trace_id:032x}"
    off = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    around.tracer = DirectTracer.of(off, "test")
    assert _serve(around)[0]["headers"]
    [point] = memory.metrics()[names.HTTP_RESPONSE_BODY_SIZE.name].data.data_points
    assert [(f"{each.trace_id or 0:032x}", each.value) for each in point.exemplars] == [
        (trace_id, 2)
    ]
    assert memory.exemplars()[names.HTTP_REQUEST_DURATION.name] == {trace_id}
    assert memory.value(names.HTTP_REQUEST_DURATION.name) == 2
    assert len(memory.spans) == 1


def test_what_is_remembered_is_bounded(memory: Memory) -> None:
    around = _around(_ok, memory)

    async def run() -> None:
        for number in range(1500):
            host = (b"host", f"h{number}".encode())
            await _call(around, headers=[host], method=f"M{number}")

    asyncio.run(run())
    assert http_attributes._parsed.cache_info().currsize <= 1024
    assert memory.value(names.HTTP_REQUEST_DURATION.name, http__request__method="_OTHER") == 1500
    assert len(memory.points(names.HTTP_REQUEST_DURATION.name)) == 1
    for number in range(2500):
        around.metrics.series(http_attributes.kind_of(_scope()), f"/{number}", 200, None)
    assert len(around.metrics._series) <= 2000


def test_forked_process_begins_at_zero(memory: Memory) -> None:
    around = _around(_ok, memory)
    _serve(around)
    child = os.fork()
    if child == 0:
        os._exit(len(around.metrics._pending) + len(around.metrics._active))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert memory.value(names.HTTP_REQUEST_DURATION.name) == 1


def test_current_span_is_the_own_one_and_keeps_what_the_application_sets(memory: Memory) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        span = trace.get_current_span()
        assert type(span) is DirectSpan
        span.set_attribute("tenant", "a")
        span.set_attribute(names.HTTP_ROUTE, "/other")
        span.add_event("checked")
        await _ok(scope, receive, send)
        span.set_attribute("late", 1)

    _serve(_around(app, memory))
    [span] = memory.spans
    attributes = span.attributes or {}
    assert (attributes["tenant"], attributes[names.HTTP_ROUTE]) == ("a", "/r")
    assert "late" not in attributes
    assert [event.name for event in span.events] == ["checked"]
