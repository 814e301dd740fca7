"""Exceptions of the `openai` client and its transport, as ProviderErrors."""

import httpx2
import openai

from app.domain.provider import ProviderError
from app.json_text import parse
from app.providers.failures import ENDPOINT, Report, ended_early, of_status, report_in
from app.providers.http_client import error_type
from app.providers.response_headers import passed_on
from app.providers.secrets import Cleaner
from chatscope.logs import without_texts


def of_exception(error: Exception, cleaner: Cleaner, *, started: bool) -> ProviderError:
    """Return the error for an exception of the client, which has it as its cause without texts.

    `started`: a part of the response was received.
    """
    failure = _of_exception(error, cleaner, started=started)
    failure.__cause__ = without_texts(error)
    return failure


def _of_exception(error: Exception, cleaner: Cleaner, *, started: bool) -> ProviderError:
    if isinstance(error, openai.APIStatusError):
        return _of_response(error.response, cleaner)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    silent = isinstance(cause, httpx2.TimeoutException) and error_type(cause) == "timeout"
    if silent or isinstance(cause, TimeoutError):
        return ProviderError("timeout", f"{ENDPOINT} stopped responding.")
    if isinstance(error, openai.APIConnectionError | httpx2.HTTPError):
        if started:
            return ended_early()
        return ProviderError("connection", f"{ENDPOINT} is unreachable.")
    return ProviderError("bad_response", f"{ENDPOINT} sent a malformed response.")


def _of_response(response: httpx2.Response, cleaner: Cleaner) -> ProviderError:
    try:
        report = report_in(parse(response.content)[0])
    except (ValueError, httpx2.HTTPError):  # no JSON, or a body that was not received
        report = Report()
    seconds = response.headers.get("retry-after", "")
    return of_status(
        response.status_code,
        report,
        cleaner,
        retry_after=seconds if seconds.isdecimal() else None,
        headers=passed_on(response.headers),
    )
