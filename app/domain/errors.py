"""Our exceptions, and the one place that turns them into an answer: OpenAI's error shape.

    {"error": {"message", "type", "param", "code", "trace_id"}}

`code` is stable, and the same word is `error.type` in telemetry.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

_RETRY_SECONDS = 2


class ServiceError(Exception):
    """An error that a client may be told of; the class says the rest."""

    status = 500
    type = "server_error"
    log_level = "INFO"  # at which a refusal with it is logged

    def __init__(
        self,
        message: str,
        *,
        code: str,
        param: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.status = status or self.status
        self.headers = dict(headers or {})
        self.limit = limit  # the name of the limit that was reached

    def body(self, trace_id: str) -> dict[str, Any]:
        """The JSON shape, the same on every route."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
                "trace_id": trace_id,
            }
        }

    def to_response(self, trace_id: str) -> JSONResponse:
        """The error as an HTTP answer."""
        return JSONResponse(self.body(trace_id), self.status, self.headers)

    def to_socket_message(self, trace_id: str) -> dict[str, Any]:
        """The error as a WebSocket message: `trace_id` also where `done` has it."""
        return {"type": "error", **self.body(trace_id), "trace_id": trace_id}


class InvalidRequest(ServiceError):
    """The client can mend it: what was wrong stands in the message, where in `param`."""

    status = 400
    type = "invalid_request_error"

    def __init__(
        self,
        message: str,
        *,
        code: str = "invalid_request",
        param: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(
            message, code=code, param=param, status=status, headers=headers, limit=limit
        )


class ModelNotFound(InvalidRequest):
    """No such model here."""

    status = 404

    def __init__(self, model: str, served: list[str]) -> None:
        super().__init__(
            f"The model '{shorten(model, 100)}' does not exist here. "
            f"There are: {', '.join(served)}.",
            code="model_not_found",
            param="model",
        )


class Overloaded(ServiceError):
    """No place for one more. The client did nothing wrong, and another instance may have one:
    503, which proxies try elsewhere, not 429, which blames the client."""

    status = 503
    log_level = "WARNING"

    def __init__(self, limit: str, most: int) -> None:
        super().__init__(
            f"There is no place for more {limit} now, accepted are up to {most} at the same time; "
            f"try again in {_RETRY_SECONDS} s.",
            code=f"too_many_{limit}",
            headers={"retry-after": str(_RETRY_SECONDS)},
            limit=limit,
        )


class ShuttingDown(ServiceError):
    """The service is about to stop: what comes now, or takes too long, is for another one."""

    status = 503

    def __init__(self) -> None:
        super().__init__(
            f"The service is shutting down; try again in {_RETRY_SECONDS} s.",
            code="shutting_down",
            headers={"retry-after": str(_RETRY_SECONDS), "connection": "close"},
        )


class InternalError(ServiceError):
    """Our bug: the client learns nothing of it but where to look."""

    def __init__(self) -> None:
        super().__init__(
            "The service failed on this request. Its trace id leads to the reason.",
            code="internal_error",
        )


def shorten(text: str, most: int = 40) -> str:
    """A client's own text, as much of it as an answer repeats."""
    return text if len(text) <= most else f"{text[:most]}…"
