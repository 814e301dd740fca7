"""The HTTP client of a provider: propagates the trace and records retries."""

from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from opentelemetry import baggage
from opentelemetry.propagate import inject
from opentelemetry.util.types import AttributeValue

from chatscope import names
from chatscope.genai import record_retry
from chatscope.otlp import is_loopback

# The `openai` client sends the number of earlier attempts to the endpoint.
_RETRY_COUNT = "x-stainless-retry-count"
# The result of the last attempt of a call; each call runs in a context of its own.
_failure: ContextVar[dict[str, AttributeValue] | None] = ContextVar("failure", default=None)


class TracedClient(openai.DefaultAsyncHttpxClient):
    """All attempts of a call are in one span: each retry is an event in its context."""

    def __init__(self, base_url: str) -> None:
        """Use the proxies of the environment, except for an endpoint on this machine."""
        options: dict[str, Any] = {}
        if is_loopback(urlsplit(base_url).hostname or ""):
            # The client ignores proxies if it is given a transport.
            limits = openai.DEFAULT_CONNECTION_LIMITS
            options["transport"] = httpx2.AsyncHTTPTransport(limits=limits)
        super().__init__(**options)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send one attempt."""
        # The baggage and the trace state of our clients must not reach third parties.
        inject(request.headers, context=baggage.clear())
        request.headers.pop("tracestate", None)
        request.headers["accept-encoding"] = "identity"
        _show_retry(request)
        try:
            response = await super().send(request, **options)
        except Exception as error:
            _failure.set({names.ERROR_TYPE: error_type(error)})
            raise
        _failure.set({names.HTTP_RESPONSE_STATUS_CODE: response.status_code})
        # Never decompress: a few kilobytes may become gigabytes in one step of the event loop.
        # A compressed body is then reported as malformed.
        response.headers.pop("content-encoding", None)
        return response


def error_type(error: BaseException | None) -> str:
    """Return `timeout` for an endpoint that does not respond, `connection` for one that is
    unreachable."""
    silent = isinstance(error, httpx2.TimeoutException)
    return "timeout" if silent and not isinstance(error, httpx2.ConnectTimeout) else "connection"


def _show_retry(request: httpx2.Request) -> None:
    count = request.headers.get(_RETRY_COUNT, "0")
    if count.isdecimal() and int(count) > 0:
        why = _failure.get() or {}
        attributes = {names.HTTP_RESEND_COUNT: int(count), **why}
        record_retry(attributes)
