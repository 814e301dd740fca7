"""POST /v1/chat/completions."""

import time

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.domain.turn import Output, Turn, run_turn
from app.providers.catalog import Catalog
from app.settings import Settings
from app.transport.admission import Admission, shutdown_as_error
from app.transport.authentication import admit, caller_attributes
from app.transport.body import read_body
from app.transport.connection import run_while_connected
from app.transport.outputs import EventStream, WholeResponse
from app.transport.response import response_writer
from app.transport.steps import step
from app.wire.completion import Completion
from app.wire.parsing import parse_json
from app.wire.request import completion_request
from chatscope import Telemetry


class Completions:
    """Chat in OpenAI's format, streamed or whole. An ASGI application, because Starlette would put
    a wrapper around the `send` of a function."""

    def __init__(
        self, settings: Settings, catalog: Catalog, telemetry: Telemetry, admission: Admission
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._telemetry = telemetry
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Validate the request and respond. Raise ServiceError."""
        started = time.perf_counter()
        body = await self._read(Request(scope, receive))
        with step("validate"):
            request = completion_request(parse_json(body), self._settings.request_limits)
            model = self._catalog.find(request.model)
            chat = request.to_domain(model.name)
        with step("history"):
            new_roles = chat.new_roles()
        charge = admit(scope, chat.user)
        turn = Turn(
            model=model,
            request=chat,
            started=started,
            new_roles=new_roles,
            attributes=caller_attributes(scope),
            charge=charge,
        )
        completion = Completion(model.name, include_usage=request.include_usage)
        writer = response_writer(scope)
        output: Output = (EventStream if chat.stream else WholeResponse)(
            scope, receive, writer, completion
        )
        with shutdown_as_error(), self._admission.response():
            await run_while_connected(
                receive,
                run_turn(self._telemetry, turn, output),
                is_complete=lambda: writer.complete,
            )

    async def _read(self, request: Request) -> bytes:
        settings = self._settings
        with self._admission.receiving():
            return await read_body(
                request, settings.max_body_bytes, settings.receive_timeout_seconds
            )
