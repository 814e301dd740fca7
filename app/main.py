"""Puts the application together: routes, middleware, lifespan; no logic."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route, WebSocketRoute

from app.chat.catalog import Catalog, build_catalog
from app.errors import ServiceError
from app.http.admission import Admission
from app.http.completions import Completions
from app.http.failures import CatchAll, UnknownPath, answer_error
from app.http.handshake import refuse_handshake
from app.http.health import Health
from app.http.models import Models
from app.http.origins import Cors, Origins
from app.http.page import page
from app.http.socket import ChatSocket
from app.settings import Settings
from chatscope import Telemetry, instrument
from chatscope.providers import Providers


def create_app(
    settings: Settings,
    *,
    catalog: Catalog | None = None,
    providers: Providers | None = None,
    shutdown_with_app: bool = True,
) -> Starlette:
    """The service, instrumented.

    `catalog` stands for the models that the settings ask for, `providers` for those that
    export. Where `shutdown_with_app` is False, the caller ends `app.state.telemetry`.
    A server that stops awaits `app.state.admission.close()` before it cuts connections.
    """
    catalog = catalog or build_catalog(settings)
    admission = Admission(settings)
    health = Health(admission)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        telemetry.instruments.show_limits(settings.limits())
        health.started = True
        yield
        health.started = False
        await catalog.close()
        if shutdown_with_app:
            await asyncio.to_thread(telemetry.shutdown)

    app = Starlette(
        middleware=_middleware(settings),
        exception_handlers={HTTPException: answer_error, ServiceError: answer_error},
        lifespan=lifespan,
    )
    telemetry = Telemetry(settings.telemetry(), providers)
    instrument(app, telemetry, flush_with_app=False)
    app.state.telemetry = telemetry
    app.state.admission = admission
    completions = Completions(settings, catalog, telemetry, admission)
    socket = ChatSocket(settings, catalog, telemetry, admission)
    app.router.routes.extend(_routes(completions, socket, Models(catalog), health))
    app.router.default = UnknownPath(app.router.routes)
    return app


def _middleware(settings: Settings) -> list[Middleware]:
    return [
        Middleware(Origins, settings.frontend_url),
        Middleware(Cors, settings.frontend_url),
        Middleware(CatchAll),
    ]


def _routes(
    completions: Completions, socket: ChatSocket, models: Models, health: Health
) -> list[BaseRoute]:
    return [
        Route("/", page),
        Route("/healthz", health.healthz),
        Route("/readyz", health.readyz),
        Route("/v1/models", models.list),
        Route("/v1/models/", models.list, include_in_schema=False),
        # Names of models may have slashes in them.
        Route("/v1/models/{model:path}", models.retrieve),
        Route("/v1/chat/completions", completions.create, methods=["POST"]),
        WebSocketRoute("/ws/chat", socket.serve),
        Route("/ws/chat", refuse_handshake, include_in_schema=False),
    ]
