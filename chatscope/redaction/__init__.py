"""Redaction: secrets and personal data are replaced before anything leaves the process.

One redactor for the process, because the encoders and the console are shared by all telemetry in
it. It is applied where texts become bytes: by the encoder of OTLP and by the console.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from chatscope.otlp import redact_with

from .redactor import Redactor, pseudonym
from .rules import KINDS
from .values import credentials_in, secret_values

__all__ = [
    "KINDS",
    "Redactor",
    "credentials_in",
    "current",
    "install",
    "pseudonym",
    "redact",
    "secret_values",
]


class _Process:
    """The redactor in use: that of all kinds before `install`."""

    current = Redactor()


_process: Final = _Process()


def current() -> Redactor:
    """Return the redactor in use."""
    return _process.current


def redact(text: str) -> str:
    """Return `text` as telemetry would show it: with marks instead of secrets.

    With the rules of `configure()`; all kinds before it was called.
    """
    return _process.current.text(text)


def install(
    kinds: Iterable[str] = KINDS,
    *,
    values: Iterable[str] = (),
    patterns: Mapping[str, str] | None = None,
    user_id_key: str | None = None,
) -> None:
    """Use these rules from now on, and all values that were given before: they stay secret."""
    _use(
        Redactor(
            kinds,
            values=_process.current.values | frozenset(values),
            patterns=patterns,
            user_id_key=user_id_key,
        )
    )


def _use(chosen: Redactor) -> None:
    _process.current = chosen
    redact_with(chosen if chosen.is_needed else None)
