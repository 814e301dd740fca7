"""The HTTP client of a provider: joins its calls to the trace, and records its retries."""

from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from opentelemetry import baggage, trace
from opentelemetry.propagate import inject
from opentelemetry.util.types import AttributeValue

from chatscope import names
from chatscope.otlp.proxy import is_loopback

# How often the `openai` client has asked before, as it tells the endpoint itself.
_RETRY_COUNT = "x-stainless-retry-count"
# What the call's last try came to; each call runs in a context of its own.
_failure: ContextVar[dict[str, AttributeValue] | None] = ContextVar("failure", default=None)


class TracedClient(openai.DefaultAsyncHttpxClient):
    """One span holds all tries of a call: each after the first is an event on the current one."""

    def __init__(self, base_url: str) -> None:
        """Use the proxies of the environment, but never for an endpoint on this machine."""
        options: dict[str, Any] = {}
        if is_loopback(urlsplit(base_url).hostname or ""):
            # A transport of one's own is the client's way to read no proxies.
            limits = openai.DEFAULT_CONNECTION_LIMITS
            options["transport"] = httpx2.AsyncHTTPTransport(limits=limits)
        super().__init__(**options)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send one try."""
        # What a client of ours put into its baggage is not for others.
        inject(request.headers, context=baggage.clear())
        request.headers["accept-encoding"] = "identity"
        _show_retry(request)
        try:
            response = await super().send(request, **options)
        except Exception as error:
            _failure.set({names.ERROR_TYPE: error_type(error)})
            raise
        _failure.set({names.HTTP_RESPONSE_STATUS_CODE: response.status_code})
        # Never decompress: a few kilobytes may become gigabytes, in one step of the event loop.
        # A body that is encoded all the same is malformed.
        response.headers.pop("content-encoding", None)
        return response


def error_type(error: BaseException | None) -> str:
    """`timeout` for an endpoint that is silent, `connection` for one that is not there."""
    silent = isinstance(error, httpx2.TimeoutException)
    return "timeout" if silent and not isinstance(error, httpx2.ConnectTimeout) else "connection"


def _show_retry(request: httpx2.Request) -> None:
    count = request.headers.get(_RETRY_COUNT, "0")
    if count.isdecimal() and int(count) > 0:
        why = _failure.get() or {}
        attributes = {names.HTTP_RESEND_COUNT: int(count), **why}
        trace.get_current_span().add_event(names.EVENT_RETRY, attributes)
