"""Failures of simulated models, as a real endpoint reports them."""

from collections.abc import Mapping
from typing import Final

from app.domain.provider import ProviderError
from app.providers.failures import Report, of_status
from app.providers.secrets import Cleaner, Redactor

PLAIN: Final = "simulated_error"
# Status, code and text of each, by its error type.
_REPORTS: Final = {
    "rate_limit_exceeded": (
        *(429, "rate_limit_exceeded"),
        "Rate limit reached for requests. Please try again in 2s.",
    ),
    "server_error": (500, "internal_error", "The server had an error processing your request."),
    "unavailable": (503, "overloaded", "The model is overloaded. Please try again later."),
    "timeout": (504, "upstream_timeout", "The model did not respond in time."),
}
_RETRY_AFTER: Final = {"rate_limit_exceeded": "2"}
KINDS: Final = (PLAIN, *_REPORTS)
# An overloaded endpoint refuses a request; it does not break off a response.
BEFORE_RESPONSE: Final = frozenset({"rate_limit_exceeded", "unavailable", "timeout"})
_CLEANER: Final = Cleaner(Redactor([]), {})


def failure(kind: str, headers: Mapping[str, str] | None = None) -> ProviderError:
    """Return the error of a kind, with the headers of its response."""
    if kind == PLAIN:
        return ProviderError(PLAIN, "The simulated model failed, as configured.")
    status, code, text = _REPORTS[kind]
    report = Report(text=text, code=code)
    retry_after = _RETRY_AFTER.get(kind)
    return of_status(status, report, _CLEANER, retry_after=retry_after, headers=headers)
