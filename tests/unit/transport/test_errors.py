"""Errors of the whole application: one shape, CORS and trace id on all, each logged once."""

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient, WebSocketDenialResponse

from app.main import create_app
from tests.memory import Memory
from tests.unit.serving import quick

_ORIGIN = "https://chat.example"
_KEYS = {"message", "type", "param", "code", "trace_id"}


async def _bug(_: Request) -> PlainTextResponse:
    raise ZeroDivisionError("a secret")


async def _left(_: Request) -> PlainTextResponse:
    raise ClientDisconnect


async def _late_bug(_: Request) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        raise ZeroDivisionError("too late")

    return StreamingResponse(body())


@pytest.fixture
def app(memory: Memory) -> Starlette:
    app = create_app(quick(frontend_url=(_ORIGIN,)), providers=memory.providers)
    app.router.routes += [Route("/bug", _bug), Route("/late", _late_bug), Route("/left", _left)]
    return app


@pytest.fixture
def client(app: Starlette) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def _assert_shape(response: httpx2.Response, status: int, code: str) -> None:
    assert response.status_code == status
    error = response.json()["error"]
    assert error.keys() == _KEYS
    assert error["code"] == code
    assert error["trace_id"] == response.headers["x-trace-id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/nope", 404, "model_not_found"),
        ("POST", "/v1/chat/completions", 415, "unsupported_media_type"),
        ("GET", "/bug", 500, "internal_error"),
    ],
)
def test_every_error_has_the_one_shape_and_cors(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    response = client.request(method, path, headers={"origin": _ORIGIN})
    _assert_shape(response, status, code)
    assert response.headers["access-control-allow-origin"] == _ORIGIN
    assert response.headers["access-control-allow-credentials"] == "true"
    assert (
        response.headers["access-control-expose-headers"] == "x-trace-id, retry-after, request-id"
    )


def test_a_wrong_method_is_told_the_right_ones(client: TestClient) -> None:
    response = client.get("/v1/chat/completions")
    assert response.headers["allow"] == "OPTIONS, POST"
    assert response.json()["error"]["message"] == "Method Not Allowed: GET /v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "shown"), [("/v1/nope", "/v1/nope"), (f"/{'x' * 100}", f"/{'x' * 99}…")]
)
def test_unknown_path_is_told_the_endpoints(client: TestClient, path: str, shown: str) -> None:
    message = client.put(path).json()["error"]["message"]
    assert message == (
        f"Unknown endpoint: PUT {shown}. Available endpoints: GET /, GET /healthz, GET /readyz, "
        "GET /v1/models, GET /v1/models/{model}, POST /v1/chat/completions, POST /v1/completions, "
        "POST /v1/messages, POST /v1/responses, POST /v1/messages/count_tokens, "
        "POST /v1/embeddings, WS /ws/chat, POST /v1/feedback, "
        "GET /openapi.json."
    )


def test_unknown_websocket_path_is_refused_alike(client: TestClient, memory: Memory) -> None:
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/nope"):
        pass
    assert caught.value.status_code == 404
    error = caught.value.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "not_found")
    assert error["message"].startswith("Unknown endpoint: WS /nope. ")
    memory.log("request refused")


def test_refusal_by_a_limit_is_counted(memory: Memory) -> None:
    app = create_app(quick(max_message_chars=1), providers=memory.providers)
    with TestClient(app) as client:
        body = {"messages": [{"role": "user", "content": "xx"}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 400
        assert client.post("/v1/chat/completions", json={}).status_code == 400
    assert memory.value("chatscope.limit.reached") == 1
    assert memory.value("chatscope.limit.reached", chatscope__limit="message_chars") == 1


def test_client_that_leaves_within_its_request_is_no_bug(
    client: TestClient, memory: Memory
) -> None:
    with pytest.raises(AssertionError, match="did not receive any response"):
        client.get("/left")
    record = memory.log("client disconnected before its request was complete").log_record
    assert record.severity_text == "INFO"
    assert "ERROR" not in [r.log_record.severity_text for r in memory.logs]


def test_a_bug_is_logged_once_and_not_told(client: TestClient, memory: Memory) -> None:
    response = client.get("/bug")
    assert "secret" not in response.text
    errors = [r for r in memory.logs if r.log_record.severity_text == "ERROR"]
    (record,) = errors
    attributes = record.log_record.attributes or {}
    assert attributes["exception.message"] == "a secret"
    assert f"{record.log_record.trace_id:032x}" == response.json()["error"]["trace_id"]


def test_a_bug_after_the_answers_begin_is_logged_and_adds_nothing_to_it(
    client: TestClient, memory: Memory
) -> None:
    response = client.get("/late")
    assert (response.status_code, response.content) == (200, b"x")
    attributes = memory.log("request failed").log_record.attributes or {}
    assert attributes["exception.message"] == "too late"


def test_a_refusal_is_logged_by_code_alone(client: TestClient, memory: Memory) -> None:
    body = {"messages": [{"role": "user", "content": "a secret"}], "stream": 2}
    client.post("/v1/chat/completions", json=body)
    attributes = memory.log("request refused").log_record.attributes or {}
    assert (attributes["code"], attributes["param"]) == ("invalid_request", "stream")
    assert "secret" not in str([r.log_record for r in memory.logs])


@pytest.mark.parametrize(
    "body",
    [
        b"{a secret",
        b'{"messages": [{"role": "user", "content": "a secret"}], "stream_options": "a secret"}',
        b'{"messages": [{"role": "user", "content": "a secret"}], "model": "a secret"}',
        b'{"messages": [{"role": ["a secret"], "content": "a secret"}]}',
    ],
)
def test_a_clients_mistake_is_no_error_on_any_span(
    client: TestClient, memory: Memory, body: bytes
) -> None:
    kind = {"content-type": "application/json"}
    response = client.post("/v1/chat/completions", content=body, headers=kind)
    assert response.status_code in (400, 404)
    assert [span.status.status_code for span in memory.spans] == [StatusCode.UNSET] * 2
    assert [span.events for span in memory.spans] == [()] * 2
    assert "secret" not in str([span.to_json() for span in memory.spans])
    assert "secret" not in str([record.log_record for record in memory.logs])


def test_an_origin_that_is_not_listed_gets_no_permission(client: TestClient) -> None:
    response = client.get("/v1/models", headers={"origin": "https://other.example"})
    _assert_shape(response, 403, "origin_not_allowed")
    assert "access-control-allow-origin" not in response.headers


def test_web_socket_of_an_origin_that_is_not_listed_is_refused(client: TestClient) -> None:
    headers = {"origin": "https://other.example"}
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        client.websocket_connect("/ws/chat", headers=headers),
    ):
        pass
    assert caught.value.status_code == 403


def test_a_browser_may_ask_first(client: TestClient) -> None:
    headers = {
        "origin": _ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type, authorization, x-stainless-lang",
    }
    response = client.options("/v1/chat/completions", headers=headers)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == _ORIGIN
    assert "x-stainless-lang" in response.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "asked",
    [
        {"access-control-request-method": "DELETE"},
        {"access-control-request-method": "P\xd6ST"},
        {
            "access-control-request-method": "POST",
            "access-control-request-private-network": "true",
        },
    ],
)
def test_a_refused_preflight_request_has_the_one_shape(
    client: TestClient, memory: Memory, asked: dict[str, str]
) -> None:
    headers = [
        (name.encode(), value.encode("latin-1"))
        for name, value in {"origin": _ORIGIN, **asked}.items()
    ]
    response = client.options("/v1/chat/completions", headers=headers)
    _assert_shape(response, 400, "preflight_refused")
    assert response.json()["error"]["message"].endswith(
        "; allowed: GET, POST from the origins in FRONTEND_URL."
    )
    assert response.headers["vary"] == "Origin"
    record = memory.log("request refused").log_record
    assert record.severity_text == "INFO"
    assert f"{record.trace_id:032x}" == response.headers["x-trace-id"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/models", "GET, HEAD, OPTIONS"),
        ("/v1/chat/completions", "OPTIONS, POST"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_lists_the_methods_of_a_path(client: TestClient, path: str, allowed: str) -> None:
    response = client.options(path)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == allowed


def test_head_is_a_get_without_its_body(client: TestClient) -> None:
    whole, head = client.get("/v1/models"), client.head("/v1/models")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_without_frontends_no_origin_is_allowed(memory: Memory) -> None:
    with TestClient(create_app(quick(), providers=memory.providers)) as client:
        headers = {"origin": _ORIGIN, "access-control-request-method": "POST"}
        response = client.options("/v1/chat/completions", headers=headers)
    _assert_shape(response, 403, "origin_not_allowed")
    assert "access-control-allow-origin" not in response.headers
