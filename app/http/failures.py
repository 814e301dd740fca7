"""Every error of a request becomes an answer in one shape, here and nowhere else."""

from http import HTTPStatus

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import InternalError, InvalidRequest, ServiceError, shorten
from app.telemetry.instruments import Instruments
from app.telemetry.tracing import current_trace_id


async def answer_error(connection: HTTPConnection, error: Exception) -> Response:
    """The answer to a refused request, also to a WebSocket's handshake."""
    refusal = error if isinstance(error, ServiceError) else _of_starlette(connection, error)
    record_refusal("request refused", refusal, connection.app.state.telemetry.instruments)
    return refusal.to_response(current_trace_id())


def record_refusal(text: str, error: ServiceError, instruments: Instruments) -> None:
    """One log line, and a count where it was a limit that refused."""
    logger.log(error.log_level, text, code=error.code, param=error.param)
    if error.limit:
        instruments.record_limit_reached(error.limit)


class CatchAll:
    """Around the application, inside CORS: what nobody handled is our bug, logged once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an HTTP request through; answer 500 if it fails before its answer began."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            logger.info("client left before its request was complete")
        except Exception:
            logger.exception("request failed")
            if not started:
                await InternalError().to_response(current_trace_id())(scope, receive, send)


def _of_starlette(connection: HTTPConnection, error: Exception) -> ServiceError:
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    method = connection.scope.get("method", "GET")
    return InvalidRequest(
        f"{status.phrase}: {shorten(method)} {shorten(connection.scope['path'])}",
        code=status.phrase.lower().replace(" ", "_"),
        status=status,
        headers=error.headers,
    )
