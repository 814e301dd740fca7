"""Composition of the application: models, routes, middleware, lifespan."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from app.conversations import SharedConversations
from app.domain.provider import Provider
from app.keys.clients import KnownClients
from app.providers.catalog import Catalog, CatalogModel
from app.providers.configured import Configured, build
from app.providers.simulated import Behaviour, SimulatedProvider
from app.settings import OPENAI_URL, SIMULATED_MODEL, Settings
from app.shared_store import SharedStore
from app.transport.admission import Admission
from app.transport.authentication import Authentication
from app.transport.completions import Completions
from app.transport.embeddings import EmbeddingsEndpoint
from app.transport.errors import ErrorMiddleware, UnknownPath
from app.transport.feedback import Feedback
from app.transport.handshake import refuse_handshake
from app.transport.health import Health
from app.transport.models import Models
from app.transport.openapi import OpenApi
from app.transport.origins import Cors, Origins
from app.transport.page import ChatPage
from app.transport.rate import RateLimiter, RateLimits
from app.transport.refusal_log import RefusalLog
from app.transport.token_count import TokenCount
from app.transport.websocket import ChatWebSocket
from app.wire.formats import FORMATS
from chatscope import Providers, Telemetry, instrument
from chatscope.genai import ServedModel, report_prices


class Application(Starlette):
    """Starlette without its two error middlewares: `ErrorMiddleware` handles all errors."""

    def build_middleware_stack(self) -> ASGIApp:
        """Put the middleware around the router."""
        app: ASGIApp = self.router
        for middleware, args, kwargs in reversed(self.user_middleware):
            app = middleware(app, *args, **kwargs)
        return app


def create_app(
    settings: Settings,
    *,
    catalog: Catalog | None = None,
    providers: Providers | None = None,
    shutdown_with_app: bool = True,
) -> Starlette:
    """Return the service, instrumented.

    `catalog` replaces the configured models, `providers` the OpenTelemetry providers that export.
    If `shutdown_with_app` is False, the caller shuts `app.state.telemetry` down. A server awaits
    `app.state.admission.close()` at shutdown, before it closes connections.
    """
    catalog = catalog or build_catalog(settings)
    url = settings.shared_store_url
    store = SharedStore(url.get_secret_value()) if url else None
    clients = KnownClients.of(settings, store)
    admission = Admission(settings)
    health = Health(admission)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        telemetry.instruments.show_limits(settings.limits())
        report_prices(telemetry.recorder, map(_served, catalog.models))
        telemetry.instruments.show_feedback(model.name for model in catalog.models)
        if clients:
            telemetry.instruments.show_budgets(clients.uses)
        if store:
            telemetry.instruments.show_shared_store(store.check)
        following = asyncio.create_task(clients.follow_file()) if clients else None
        health.started = True
        yield
        health.started = False
        await catalog.close()
        if clients and following:
            following.cancel()
            await asyncio.to_thread(clients.close)
        if store:
            await store.close()
        if shutdown_with_app:
            await asyncio.to_thread(telemetry.shutdown)

    def on_limit(limit: str) -> None:
        telemetry.instruments.record_limit_reached(limit)

    refusals = RefusalLog(settings.max_refusal_lines, on_limit)
    middleware = _middleware(settings, refusals, clients, store)
    app = Application(middleware=middleware, lifespan=lifespan)
    telemetry = Telemetry(settings.telemetry(), providers)
    instrument(app, telemetry, flush_with_app=False)
    app.state.telemetry = telemetry
    app.state.admission = admission
    app.state.refusals = refusals
    shared = (settings, catalog, telemetry, admission)
    endpoints: dict[str, Any] = {
        "/v1/chat/completions": Completions(*shared),
        **{path: Completions(*shared, each) for path, each in FORMATS.items()},
        "/v1/messages/count_tokens": TokenCount(settings, catalog, admission).count,
        "/v1/embeddings": EmbeddingsEndpoint(*shared),
    }

    def prices(model: CatalogModel) -> tuple[float, float] | None:
        price = _served(model).price(telemetry.recorder.prices)
        return (price.prompt, price.completion) if price else None

    models = Models(catalog, prices)
    page = ChatPage(settings)
    websocket = ChatWebSocket(*shared, refusals, SharedConversations.of(settings, store))
    app.router.routes.extend(_routes(endpoints, websocket, models, health, page))
    feedback = Feedback(settings, telemetry, admission)
    app.router.routes.append(Route("/v1/feedback", feedback.create, methods=["POST"]))
    app.router.routes.append(Route("/openapi.json", OpenApi(settings).show))
    app.router.default = UnknownPath(app.router.routes)
    return app


def build_catalog(settings: Settings) -> Catalog:
    """Return the configured models. The simulated model is always included."""
    behaviour = Behaviour(
        tokens_per_second=settings.simulated_tokens_per_second,
        first_token_seconds=settings.simulated_first_token_seconds,
        answer_tokens=settings.simulated_answer_tokens,
        error_rate=settings.simulated_error_rate,
        stall_rate=settings.simulated_stall_rate,
        stall_seconds=settings.simulated_stall_seconds,
        seed=settings.simulated_seed,
    )
    simulated = SimulatedProvider(behaviour, model=SIMULATED_MODEL)
    configured = [_openai_compatible(settings)] if settings.openai_models else []
    file = settings.further_models
    further = build(file) if file else Configured([], {})
    return Catalog(
        [*configured, *further.providers, simulated],
        settings.model,
        stall_seconds=settings.answer_stall_seconds,
        max_calls=settings.max_answers,
        options=further.options,
    )


def _openai_compatible(settings: Settings) -> Provider:
    # Importing its client takes a second: only if it is used.
    from app.providers.openai_compatible import OpenAICompatibleProvider  # noqa: PLC0415

    key = settings.openai_api_key
    return OpenAICompatibleProvider(
        base_url=settings.openai_base_url or OPENAI_URL,
        api_key=key.get_secret_value() if key else None,
        models=settings.openai_models,
        timeout=settings.openai_timeout_seconds,
        connect_timeout=settings.openai_connect_timeout_seconds,
        max_retries=settings.openai_max_retries,
    )


def _served(model: CatalogModel) -> ServedModel:
    provider = model.provider
    return ServedModel(
        name=model.name,
        provider=provider.name,
        upstream=model.options.upstream,
        server_address=provider.server[0] if provider.server else None,
        free=provider.in_process,
    )


def _middleware(
    settings: Settings,
    refusals: RefusalLog,
    clients: KnownClients | None,
    store: SharedStore | None,
) -> list[Middleware]:
    return [
        Middleware(ErrorMiddleware, refusals),
        Middleware(Origins, settings.frontend_url, settings.host_names),
        Middleware(Cors, settings.frontend_url),
        *_rate_limits(settings, store),
        *([Middleware(Authentication, clients)] if clients else []),
    ]


def _rate_limits(settings: Settings, store: SharedStore | None) -> list[Middleware]:
    rates = settings.rate_limit_per_key, settings.rate_limit_per_address
    return [Middleware(RateLimits, RateLimiter(*rates, store))] if any(rates) else []


def _routes(
    endpoints: Mapping[str, Any],
    websocket: ChatWebSocket,
    models: Models,
    health: Health,
    page: ChatPage,
) -> list[BaseRoute]:
    return [
        Route("/", page.show),
        Route("/page/{version}/{name}", page.asset, include_in_schema=False),
        Route("/healthz", health.healthz),
        Route("/readyz", health.readyz),
        Route("/v1/models", models.list),
        Route("/v1/models/", models.list, include_in_schema=False),
        # Names of models may contain slashes.
        Route("/v1/models/{model:path}", models.retrieve),
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()),
        WebSocketRoute("/ws/chat", websocket),
        Route("/ws/chat", refuse_handshake, include_in_schema=False),
    ]
