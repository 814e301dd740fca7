"""POST /v1/chat/completions, and the formats that are translated to it."""

import time
from functools import partial

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.domain.identity import Identity
from app.domain.turn import Output, Turn, run_turn
from app.providers.catalog import Catalog
from app.settings import Settings
from app.transport.admission import Admission, shutdown_as_error
from app.transport.authentication import admit, caller_attributes
from app.transport.body import read_body
from app.transport.connection import run_while_connected
from app.transport.large import unblocked
from app.transport.outputs import EventStream, Rendering, WholeResponse
from app.transport.response import response_writer
from app.transport.steps import step
from app.wire.completion import Completion
from app.wire.formats import Exchange, Format
from app.wire.parsing import parse_json
from app.wire.request import CompletionRequest, completion_request
from app.wire.translation import Translation
from chatscope import Telemetry


class Completions:
    """Responses of a model, streamed or whole. An ASGI application, because Starlette would put
    a wrapper around the `send` of a function."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        telemetry: Telemetry,
        admission: Admission,
        format_: Format | None = None,
    ) -> None:
        """`format_` of requests and responses; None: chat completions."""
        self._settings = settings
        self._catalog = catalog
        self._telemetry = telemetry
        self._admission = admission
        self._format = format_

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Validate the request and respond. Raise ServiceError."""
        started = time.perf_counter()
        http = Request(scope, receive)
        body = await self._read(http)
        with step("validate"):
            request, exchange = await unblocked(len(body), partial(self._validate, body))
            model = self._catalog.find(request.model)
            chat = request.to_domain(model.name)
            metadata = {**chat.metadata, **(exchange.metadata if exchange else {})}
            identity = Identity.of(chat.body, metadata, Headers(scope=scope))
        with step("history"):
            new_roles = chat.new_roles()
        charge = await admit(scope, identity.user_id)
        turn = Turn(
            model=model,
            request=chat,
            started=started,
            new_roles=new_roles,
            identity=identity,
            operation=self._format.operation if self._format else "chat",
            attributes=caller_attributes(scope),
            charge=charge,
        )
        rendering: Rendering = Completion(model.name, include_usage=request.include_usage)
        if self._format and exchange:
            rendering = Translation(model.name, self._format, exchange)
        writer = response_writer(scope)
        output: Output = (EventStream if chat.stream else WholeResponse)(
            scope, receive, writer, rendering
        )
        with shutdown_as_error(), self._admission.response():
            await run_while_connected(
                receive,
                run_turn(self._telemetry, turn, output),
                is_complete=lambda: writer.complete,
            )

    def _validate(self, body: bytes) -> tuple[CompletionRequest, Exchange | None]:
        data = parse_json(body)
        limits = self._settings.request_limits
        if self._format is None:
            return completion_request(data, limits), None
        exchange = self._format.read(data)
        return completion_request(exchange.chat, limits, exchange.own_parameter), exchange

    async def _read(self, request: Request) -> bytes:
        settings = self._settings
        with self._admission.receiving():
            return await read_body(
                request, settings.max_body_bytes, settings.receive_timeout_seconds
            )
