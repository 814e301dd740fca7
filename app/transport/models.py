"""GET /v1/models and /v1/models/{model}."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from app.providers.catalog import Catalog, CatalogModel


class Models:
    """The models and their aliases in OpenAI's format; the default model first."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._created = int(time.time())

    async def list(self, request: Request) -> JSONResponse:
        """Return all models."""
        data = [self._object(name, model) for name, model in self._catalog.names.items()]
        return JSONResponse({"object": "list", "data": data})

    async def retrieve(self, request: Request) -> JSONResponse:
        """Return one model. Raise ModelNotFound."""
        name = request.path_params["model"]
        return JSONResponse(self._object(name, self._catalog.find(name)))

    def _object(self, name: str, model: CatalogModel) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": model.provider.name,
        }
