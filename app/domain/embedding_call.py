"""One request for embeddings: called, and recorded once, however it ends."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from loguru import logger

from app.domain.embedding import Embedded, EmbeddingRequest
from app.domain.errors import InternalError, ServiceError
from app.domain.provider import ProviderError, ProviderInfo
from app.domain.turn import SHUTDOWN
from chatscope.genai import Usage
from chatscope.logs import without_texts

if TYPE_CHECKING:  # the telemetry of web frameworks, which the domain must not load
    from chatscope import Telemetry


class EmbeddingModel(Protocol):
    """One model of one provider that has embeddings."""

    @property
    def name(self) -> str:
        """The name that clients request."""

    @property
    def provider(self) -> ProviderInfo:
        """The provider that serves it."""

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Return the embeddings. Raise ProviderError."""


async def run_embedding(
    telemetry: "Telemetry",
    model: EmbeddingModel,
    request: EmbeddingRequest,
    charge: Callable[[Usage | None, float | None], None] | None = None,
) -> Embedded:
    """Return the embeddings and record the call; `charge` is called with its usage and cost.

    Raise ServiceError.
    """
    address, port = model.provider.server or (None, None)
    call = telemetry.start_embeddings(
        model=model.name,
        provider=model.provider.name,
        dimensions=request.dimensions,
        server_address=address,
        server_port=port,
    )
    failure: ServiceError
    try:
        with call.current():
            found = await model.embed(request)
        call.response_headers(found.headers)
        tokens = found.usage.prompt_tokens if found.usage else None
        call.describe(tokens=tokens, response_model=found.response_model)
        call.succeeded()
        return found
    except asyncio.CancelledError as cancelled:
        call.cancelled(*([SHUTDOWN] if SHUTDOWN in cancelled.args else []))
        raise
    except ServiceError as error:
        if isinstance(error, ProviderError):
            call.response_headers(error.upstream.headers)
        call.failed(getattr(error, "error_type", error.code), error)
        logger.error("embeddings failed", code=error.code)
        failure = error
    except Exception as error:
        failure = InternalError()
        call.failed(failure.code, error)
        logger.opt(exception=without_texts(error)).error("embeddings failed", code=failure.code)
    finally:
        call.close()
        if charge:
            charge(call.usage, call.cost)
    raise failure
