"""Errors that a client may see; `app.wire.errors` gives them their HTTP status and JSON object.

`code` is stable, and equals `error.type` in telemetry.
"""

from typing import Final

_RETRY_SECONDS: Final = 2


class ServiceError(Exception):
    """Base class. The message is for the client and contains nothing internal."""

    log_level = "INFO"  # of the log line about a request that was refused with this error

    def __init__(
        self,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after: str | None = None,
        limit: str | None = None,
    ) -> None:
        """`param`: the invalid parameter; `retry_after`: seconds; `limit`: the limit exceeded."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.limit = limit


class InvalidRequest(ServiceError):
    """The client can correct the request: the message says how, `param` says where."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "invalid_request",
        param: str | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param, limit=limit)


class ModelNotFound(InvalidRequest):
    """The requested model does not exist."""

    def __init__(self, model: str, available: list[str]) -> None:
        super().__init__(
            f"The model '{shorten(model, 100)}' does not exist. "
            f"Available models: {', '.join(available)}.",
            code="model_not_found",
            param="model",
        )


class Overloaded(ServiceError):
    """A concurrency limit is reached. The client did nothing wrong: another instance may accept
    the request."""

    log_level = "WARNING"

    def __init__(self, limit: str, maximum: int) -> None:
        super().__init__(
            f"Too many concurrent {limit} (maximum {maximum}); try again in {_RETRY_SECONDS} s.",
            code=f"too_many_{limit}",
            retry_after=str(_RETRY_SECONDS),
            limit=limit,
        )


class ShuttingDown(ServiceError):
    """The service is shutting down and neither accepts nor finishes the request."""

    def __init__(self) -> None:
        super().__init__(
            f"The service is shutting down; try again in {_RETRY_SECONDS} s.",
            code="shutting_down",
            retry_after=str(_RETRY_SECONDS),
        )


class InternalError(ServiceError):
    """A bug of the service; the client gets the trace ID and no details."""

    def __init__(self) -> None:
        super().__init__("Internal error; look up the trace ID for details.", code="internal_error")


def shorten(text: str, maximum: int = 40) -> str:
    """Return a client's own text, shortened for an error message."""
    return text if len(text) <= maximum else f"{text[:maximum]}…"
