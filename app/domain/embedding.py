"""Embeddings: the request to a model, and its response."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chatscope.genai import Usage


@dataclass(frozen=True, kw_only=True)
class EmbeddingRequest:
    """One request; `body` has all parameters of the client and is never modified."""

    model: str
    body: Mapping[str, Any]

    @property
    def dimensions(self) -> int | None:
        """Length of the vectors, if the client chose it."""
        found = self.body.get("dimensions")
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def user(self) -> str | None:
        """The user that the client names."""
        found = self.body.get("user")
        return found if isinstance(found, str) else None


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A response: its JSON, and what is recorded of it."""

    raw: bytes
    usage: Usage | None = None
    response_model: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
