"""GET /openapi.json: the OpenAPI description of the HTTP endpoints."""

import json
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from app.settings import Settings
from app.wire.formats import format_of
from app.wire.schemas import reference, schemas
from chatscope import __version__

_VERSION: Final = "3.1.0"
_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
# Of every endpoint: the host, the origin, the method, the rate, the head, a bug.
_ALWAYS: Final = (400, 403, 405, 421, 429, 431, 500)
_PROTECTED: Final = (401,)
_WITH_BODY: Final = (408, 413, 415, 503)
_OF_A_MODEL: Final = (404, 502, 504)
_DESCRIPTIONS: Final = {
    400: "The request is invalid; the message names the parameter and what is accepted.",
    401: "The API key is missing or invalid.",
    403: "The origin, or the API key for this endpoint, is not allowed.",
    404: "The model does not exist.",
    405: "The method is not supported.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not JSON, or compressed.",
    421: "The host is not allowed.",
    429: "A rate limit or a budget is exceeded.",
    431: "URL and headers are too large.",
    500: "A bug of the service.",
    502: "The model's endpoint failed.",
    503: "The service, or the model's endpoint, cannot respond now.",
    504: "The model's endpoint did not respond in time.",
}
_TRACE_ID: Final = {"description": "The trace ID.", "schema": {"type": "string"}}


@dataclass(frozen=True)
class _Endpoint:
    """One endpoint: its schemas by name, and the statuses that it responds with."""

    method: str
    path: str
    summary: str
    response: str = ""
    request: str = ""
    statuses: tuple[int, ...] = ()
    success: int = 200
    streams: bool = False
    media_type: str = _JSON


def _post(path: str, summary: str, request: str, response: str, **more: Any) -> _Endpoint:
    return _Endpoint("post", path, summary, response, request, _PROTECTED + _WITH_BODY, **more)


def _model(path: str, summary: str, request: str, response: str, streams: bool) -> _Endpoint:
    statuses = _PROTECTED + _WITH_BODY + _OF_A_MODEL
    return _Endpoint("post", path, summary, response, request, statuses, streams=streams)


_MODELS: Final = "/v1/models"
_ENDPOINTS: Final = (
    _model("/v1/chat/completions", "Create a chat completion", "ChatCompletionRequest",
           "ChatCompletion", streams=True),
    _model("/v1/responses", "Create a response", "ResponsesRequest", "Response", streams=True),
    _model("/v1/messages", "Create a message", "MessagesRequest", "Message", streams=True),
    _model("/v1/messages/count_tokens", "Estimate the tokens of a message", "CountTokensRequest",
           "TokenCount", streams=False),
    _model("/v1/completions", "Create a text completion", "TextCompletionRequest",
           "TextCompletion", streams=True),
    _model("/v1/embeddings", "Create embeddings", "EmbeddingRequest", "Embeddings", streams=False),
    _post("/v1/feedback", "Rate a response", "Feedback", "FeedbackRecorded", success=201),
    _Endpoint("get", _MODELS, "List the models", "Models", statuses=_PROTECTED),
    _Endpoint("get", f"{_MODELS}/{{model}}", "Retrieve a model", "Model",
              statuses=(*_PROTECTED, 404)),
    _Endpoint("get", "/healthz", "Whether the process responds", "Status"),
    _Endpoint("get", "/readyz", "Whether the service accepts requests", "Status", statuses=(503,)),
    _Endpoint("get", "/openapi.json", "This description"),
    _Endpoint("get", "/", "The chat page", media_type="text/html"),
)  # fmt: skip


class OpenApi:
    """The description of one service, with its limits."""

    def __init__(self, settings: Settings) -> None:
        self._content = json.dumps(description(settings)).encode()

    async def show(self, request: Request) -> Response:
        """Return the description."""
        return Response(self._content, media_type=_JSON)


def description(settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI description."""
    paths: dict[str, Any] = {}
    for endpoint in _ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint)
    return {
        "openapi": _VERSION,
        "info": {
            "title": "Chatscope",
            "version": __version__,
            "description": "Chat completions in the formats of OpenAI and Anthropic. Parameters "
            "that are not listed are passed to the model's provider. The WebSocket `/ws/chat` "
            "accepts WebSocketMessage.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas(settings.request_limits),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(endpoint: _Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": endpoint.summary, "operationId": _identifier(endpoint)}
    if "{model}" in endpoint.path:
        schema = {"type": "string", "minLength": 1}
        found["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": schema}]
    if endpoint.request:
        content = {_JSON: {"schema": reference(endpoint.request)}}
        found["requestBody"] = {"required": True, "content": content}
    if 401 in endpoint.statuses:
        # Without KEYS_FILE, none is needed.
        found["security"] = [{}, {"bearer": []}, {"apiKey": []}]
    found["responses"] = {
        str(endpoint.success): _success(endpoint),
        **{
            str(status): _failure(endpoint.path, status)
            for status in sorted({*_ALWAYS, *endpoint.statuses})
        },
    }
    return found


def _success(endpoint: _Endpoint) -> dict[str, Any]:
    schema = reference(endpoint.response) if endpoint.response else {}
    content: dict[str, Any] = {endpoint.media_type: {"schema": schema}}
    if endpoint.streams:
        content[_EVENTS] = {"schema": reference("Event")}
    return {"description": endpoint.summary, "headers": _headers(), "content": content}


def _failure(path: str, status: int) -> dict[str, Any]:
    form = format_of(path)
    schema = "MessagesError" if form is not None and form.trace_header else "Error"
    return {
        "description": _DESCRIPTIONS[status],
        "headers": _headers(),
        "content": {_JSON: {"schema": reference(schema)}},
    }


def _headers() -> dict[str, Any]:
    return {"x-trace-id": _TRACE_ID}


def _identifier(endpoint: _Endpoint) -> str:
    words = endpoint.path.replace("{", "").replace("}", "").replace(".", "/").split("/")
    return "_".join([endpoint.method, *filter(None, words)])
