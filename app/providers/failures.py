"""Failures of an OpenAI-compatible endpoint, as ProviderErrors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.domain.provider import ProviderError, Upstream
from app.json_text import joined_surrogates, parse, render
from app.providers.secrets import Cleaner
from chatscope.logs import without_texts

ENDPOINT: Final = "The model's endpoint"
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Of requests that the client can correct.
_REFUSED: Final = frozenset({400, 413, 422})
# The text of these may describe the operator's account, or a part of the key.
_OF_THE_OPERATOR: Final = frozenset({401, 402, 403})
# Error type and description for a status of the endpoint.
BY_STATUS: Final = {
    401: ("authentication", "rejected the API key"),
    402: ("permission_denied", "requires payment"),
    403: ("permission_denied", "denied permission"),
    404: ("not_found", "does not have this model, or has another address"),
    408: ("timeout", "timed out"),
    429: ("rate_limit_exceeded", "exceeded its rate limit"),
    503: ("unavailable", "is unavailable"),
    504: ("timeout", "timed out"),
}
_FAILED: Final = ("server_error", "failed")


@dataclass(frozen=True)
class Report:
    """The facts in the body of an error."""

    text: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None


def error_in(found: Mapping[str, Any], cleaner: Cleaner) -> ProviderError | None:
    """Return the error that an event or a body with status 200 reports; None if it reports none."""
    if not found.get("error") and (
        "choices" in found or not (found.get("object") == "error" or "message" in found)
    ):
        return None
    return reported_error(found, cleaner)


def reported_error(found: object, cleaner: Cleaner) -> ProviderError:
    """Return the error that an event or body describes."""
    report = report_in(found)
    if report.status is None:
        return _failure(*_FAILED, report, cleaner, ending=" during its response")
    return of_status(report.status, report, cleaner)


def malformed(cause: Exception | None = None) -> ProviderError:
    """Return the error for a response that cannot be read."""
    error = ProviderError("bad_response", f"{ENDPOINT} sent a malformed response.")
    error.__cause__ = without_texts(cause) if cause else None
    return error


def parsed(data: bytes) -> tuple[Any, bool]:
    """Return the value of a JSON text, and whether it is strict JSON. Raise ProviderError."""
    try:
        return parse(data)
    except ValueError as error:
        failure = malformed(error)
    raise failure  # outside `except`: the original, with its texts, must not be the context


def ended_early() -> ProviderError:
    """Return the error for a stream without its end."""
    return ProviderError("broken_stream", f"{ENDPOINT} ended the stream before its final message.")


def of_status(
    status: int,
    report: Report,
    cleaner: Cleaner,
    *,
    retry_after: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProviderError:
    """Return the error for a status of the endpoint."""
    text = report.text
    upstream = Upstream(
        status=status,
        code=_code(report, cleaner),
        text=cleaner.recorded(text) if text else None,
        headers=headers or {},
    )
    if status in _REFUSED:
        return ProviderError(
            "invalid_request",
            f"{ENDPOINT} refused the request:",
            detail=cleaner.sent(text or "no reason given"),
            param=report.param and cleaner.sent(report.param),
            upstream=upstream,
        )
    known = BY_STATUS.get(status) or (_FAILED if status >= 500 else None)
    kind, description = known or ("bad_response", f"responded with status {status}")
    return ProviderError(
        kind,
        f"{ENDPOINT} {description}.",
        detail=None if status in _OF_THE_OPERATOR else upstream.text,
        retry_after=retry_after,
        upstream=upstream,
    )


def _failure(
    kind: str, description: str, report: Report, cleaner: Cleaner, *, ending: str
) -> ProviderError:
    text = cleaner.recorded(report.text) if report.text else None
    upstream = Upstream(code=_code(report, cleaner), text=text)
    message = f"{ENDPOINT} {description}{ending}."
    return ProviderError(kind, message, detail=text, upstream=upstream)


def report_in(body: object) -> Report:
    """Read the forms of errors that endpoints have: OpenAI's, a list of it (Gemini), one without
    the outer object (vLLM), a text (Ollama) and FastAPI's `detail`."""
    found = body[0] if isinstance(body, list) and body else body
    error = found
    if isinstance(found, Mapping) and found.get("error"):
        error = found["error"]
    if isinstance(error, str):
        return Report(text=joined_surrogates(error))
    if not isinstance(error, Mapping):
        return Report()
    text = error.get("message") or error.get("detail")
    if text is not None and not isinstance(text, str):
        text = render(text).decode()
    code = error.get("code")
    param = error.get("param")
    return Report(
        text=joined_surrogates(text) if text else None,
        code=code if isinstance(code, str) and not code.isdecimal() else None,
        param=joined_surrogates(param) if isinstance(param, str) else None,
        status=_status(error.get("code")) or _status(error.get("status")),
    )


def _status(found: object) -> int | None:
    if isinstance(found, str) and found.isdecimal() and len(found) == 3:
        found = int(found)
    return found if type(found) is int and 400 <= found < 600 else None


def _code(report: Report, cleaner: Cleaner) -> str | None:
    """Return the endpoint's code if it is one word: telemetry records it."""
    code = report.code
    return code if code and _WORD.fullmatch(code) and cleaner.sent(code) == code else None
