"""Attempts to get one response, each from another model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.domain.provider import Model


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt that ended before its first event, or succeeded with it (no `error_type`)."""

    number: int  # from 1
    model: "Model"
    error_type: str | None = None
    status: int | None = None  # reported by the provider
    seconds: float  # until the failure or the first event
    headers: Mapping[str, str] = field(default_factory=dict)  # of a failure: those passed on

    @property
    def succeeded(self) -> bool:
        """Whether its events are the response."""
        return self.error_type is None


OnAttempt = Callable[[Attempt], None]
