"""The stock ASGI middleware with the stable HTTP conventions, independent of the environment.

The library selects the conventions by OTEL_SEMCONV_STABILITY_OPT_IN, once for a process and all of
its instrumentations, and has no other way. That variable is the operator's, and concerns other
instrumentations as well: here the selection is replaced while one middleware is constructed. The
names are private: the import, or the check below, fails where the library changed them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.instrumentation._semconv import (
    _OpenTelemetrySemanticConventionStability as _Selection,
)
from opentelemetry.instrumentation._semconv import (
    _OpenTelemetryStabilitySignalType as _Signal,
)
from opentelemetry.instrumentation._semconv import (
    _StabilityMode as _Mode,
)
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.types import ASGIApp


def stable_middleware(app: ASGIApp, **options: Any) -> OpenTelemetryMiddleware:
    """Return the middleware around `app`; `options` are its own. Raises RuntimeError."""
    with _stable_conventions():
        middleware = OpenTelemetryMiddleware(app, **options)
    selected = getattr(middleware, "_sem_conv_opt_in_mode", None)
    if selected is not _Mode.HTTP or middleware.duration_histogram_new is None:
        raise RuntimeError(
            "opentelemetry-instrumentation-asgi selects its HTTP conventions differently; "
            "chatscope/stable_http.py was written for 0.66b2"
        )
    return middleware


@contextmanager
def _stable_conventions() -> Iterator[None]:
    # From here on the library does not read the environment again.
    _Selection._initialize()  # type: ignore[no-untyped-call]
    before = _Selection._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING
    _Selection._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING = {**before, _Signal.HTTP: _Mode.HTTP}
    try:
        yield
    finally:
        _Selection._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING = before
