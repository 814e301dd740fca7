"""POST /v1/messages/count_tokens."""

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from app.providers.catalog import Catalog
from app.settings import Settings
from app.transport.admission import Admission
from app.transport.body import read_body
from app.transport.large import unblocked
from app.transport.steps import step
from app.wire.formats import count_tokens
from app.wire.parsing import parse_json


class TokenCount:
    """An estimate of the tokens of a request in Anthropic's format. No model is called."""

    def __init__(self, settings: Settings, catalog: Catalog, admission: Admission) -> None:
        self._settings = settings
        self._catalog = catalog
        self._admission = admission

    async def count(self, request: Request) -> JSONResponse:
        """Validate the request and respond. Raise ServiceError."""
        settings = self._settings
        with self._admission.receiving():
            body = await read_body(
                request, settings.max_body_bytes, settings.receive_timeout_seconds
            )
        with step("validate"):
            model, counted = await unblocked(len(body), partial(_counted, body))
            self._catalog.find(model)
        return JSONResponse(counted)


def _counted(body: bytes) -> tuple[str, dict[str, Any]]:
    """Return the requested model and the response."""
    data = parse_json(body)
    counted = count_tokens(data)
    return data.get("model") or "", counted
