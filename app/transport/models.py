"""GET /v1/models and /v1/models/{model}."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from app.providers.catalog import Catalog, Entry


class Models:
    """What can be asked, in the OpenAI wire format; the default model first."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._created = int(time.time())

    async def list(self, request: Request) -> JSONResponse:
        """All."""
        data = [self._object(entry) for entry in self._catalog.entries]
        return JSONResponse({"object": "list", "data": data})

    async def retrieve(self, request: Request) -> JSONResponse:
        """One; 404 for a name that nobody answers to."""
        return JSONResponse(self._object(self._catalog.find(request.path_params["model"])))

    def _object(self, entry: Entry) -> dict[str, Any]:
        return {
            "id": entry.model,
            "object": "model",
            "created": self._created,
            "owned_by": entry.provider.name,
        }
