"""GET /v1/models and /v1/models/{model}."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from app.providers.catalog import Catalog, CatalogModel


class Models:
    """The models in OpenAI's format; the default model first."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._created = int(time.time())

    async def list(self, request: Request) -> JSONResponse:
        """Return all models."""
        data = [self._object(model) for model in self._catalog.models]
        return JSONResponse({"object": "list", "data": data})

    async def retrieve(self, request: Request) -> JSONResponse:
        """Return one model. Raise ModelNotFound."""
        return JSONResponse(self._object(self._catalog.find(request.path_params["model"])))

    def _object(self, model: CatalogModel) -> dict[str, Any]:
        return {
            "id": model.name,
            "object": "model",
            "created": self._created,
            "owned_by": model.provider.name,
        }
