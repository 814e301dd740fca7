"""POST /v1/embeddings."""

import dataclasses
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.domain.embedding import EmbeddingRequest
from app.domain.embedding_call import run_embedding
from app.domain.errors import ServiceError, ShuttingDown
from app.providers.catalog import Catalog, CatalogModel
from app.settings import Settings
from app.transport.admission import Admission, shutdown_as_error
from app.transport.authentication import Charge, admit
from app.transport.body import read_body
from app.transport.connection import run_while_connected
from app.transport.errors import error_response
from app.transport.large import unblocked
from app.transport.response import response_writer
from app.transport.steps import step
from app.wire.errors import error_object
from app.wire.parsing import parse_json
from app.wire.request import embedding_request
from chatscope import Telemetry, current_trace_id


class EmbeddingsEndpoint:
    """Embeddings in OpenAI's format: the provider's response is relayed as it is."""

    def __init__(
        self, settings: Settings, catalog: Catalog, telemetry: Telemetry, admission: Admission
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._telemetry = telemetry
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Validate the request and respond. Raise ServiceError."""
        settings = self._settings
        with self._admission.receiving():
            body = await read_body(
                Request(scope, receive), settings.max_body_bytes, settings.receive_timeout_seconds
            )
        with step("validate"):
            name, request = await unblocked(len(body), partial(self._validate, body))
            model = self._catalog.find(name)
            model.check_embeddings()
            request = dataclasses.replace(request, model=model.name)
        charge = await admit(scope, request.user)
        writer = response_writer(scope)

        async def respond() -> None:
            response = await self._response(model, request, charge)
            await response(scope, receive, writer)

        with shutdown_as_error(), self._admission.response():
            await run_while_connected(receive, respond(), is_complete=lambda: writer.complete)

    def _validate(self, body: bytes) -> tuple[str, EmbeddingRequest]:
        return embedding_request(parse_json(body), self._settings.request_limits)

    async def _response(
        self, model: CatalogModel, request: EmbeddingRequest, charge: Charge
    ) -> Response:
        try:
            found = await run_embedding(self._telemetry, model, request, charge)
        except ShuttingDown:
            raise
        except ServiceError as error:
            return error_response(error, error_object(error, current_trace_id()))
        headers = dict(found.headers)
        return Response(found.raw, media_type="application/json", headers=headers)
