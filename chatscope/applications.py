"""Instrument an application, in the way that its framework offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from chatscope.configuration import configured
from chatscope.guard import warnings

if TYPE_CHECKING:
    from chatscope.telemetry import Telemetry

App = TypeVar("App")


class InstrumentationError(RuntimeError):
    """An application cannot be instrumented."""


def instrument(app: App, telemetry: Telemetry | None = None, *, flush_with_app: bool = True) -> App:
    """Instrument an ASGI application; return the application to serve.

    Starlette, FastAPI and Quart applications are instrumented in place; any other is wrapped. A
    second call logs a warning and changes nothing. Without `telemetry`, that of the process is
    used, and configured if needed. `flush_with_app` sends what is queued when the application
    ends.

    Raises InstrumentationError if the application has started, or is not callable.
    """
    from chatscope.middleware import TelemetryMiddleware  # noqa: PLC0415
    from chatscope.muting import FRAMEWORKS  # noqa: PLC0415

    if not callable(app) or isinstance(app, type):
        raise InstrumentationError(f"{app!r} is not an ASGI application")
    if _is_instrumented(app):
        warnings.warn("instrumented twice", f"{_name(app)} is instrumented already")
        return app
    chosen = telemetry or configured()
    options: dict[str, Any] = {"flush_with_app": flush_with_app}
    target: Any = app
    chosen.start()
    chosen.providers.muted.update(FRAMEWORKS)
    if _is_starlette(app):
        try:
            target.add_middleware(TelemetryMiddleware, telemetry=chosen, application=app, **options)
        except RuntimeError as error:
            raise InstrumentationError(
                f"{_name(app)} has started: call instrument() before, where the application is"
                " made, not in its lifespan"
            ) from error
        return app
    if hasattr(app, "asgi_app"):
        target.asgi_app = TelemetryMiddleware(target.asgi_app, chosen, app, **options)
        return app
    wrapped: Any = TelemetryMiddleware(target, chosen, **options)
    return wrapped  # type: ignore[no-any-return]


def _is_starlette(app: object) -> bool:
    """Whether the application has Starlette's public interface."""
    return all(hasattr(app, name) for name in ("add_middleware", "user_middleware", "routes"))


def _is_instrumented(app: Any) -> bool:
    from chatscope.middleware import TelemetryMiddleware  # noqa: PLC0415

    inner = getattr(app, "asgi_app", None)
    return (
        isinstance(app, TelemetryMiddleware)
        or isinstance(inner, TelemetryMiddleware)
        or any(each.cls is TelemetryMiddleware for each in getattr(app, "user_middleware", ()))
    )


def _name(app: object) -> str:
    from chatscope.middleware import TelemetryMiddleware  # noqa: PLC0415

    served = app.app if isinstance(app, TelemetryMiddleware) else app
    return f"the {type(served).__qualname__} application"
