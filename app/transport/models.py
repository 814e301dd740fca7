"""GET /v1/models and /v1/models/{model}."""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from app.providers.catalog import Catalog, CatalogModel

_TOKENS_PER_PRICE: Final = 1_000_000


# What a million tokens of the prompt, and of the completion, cost now in US dollars, if known.
Prices = Callable[[CatalogModel], tuple[float, float] | None]


class Models:
    """The models and their aliases in OpenAI's format; the default model first.

    Additions in OpenRouter's form: `pricing`, US dollars for one token, as texts; `context_length`,
    tokens; `architecture`, of models for embeddings.
    """

    def __init__(self, catalog: Catalog, prices: Prices) -> None:
        self._catalog = catalog
        self._prices = prices
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
        found: dict[str, Any] = {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": model.provider.name,
        }
        if price := self._prices(model):
            prompt, completion = map(_per_token, price)
            found["pricing"] = {"prompt": prompt, "completion": completion}
        if context := model.options.context_tokens:
            found["context_length"] = context
        if model.is_for_embeddings:
            found["architecture"] = {"output_modalities": ["embeddings"]}
        return found


def _per_token(usd: float) -> str:
    return format((Decimal(str(usd)) / _TOKENS_PER_PRICE).normalize(), "f")
