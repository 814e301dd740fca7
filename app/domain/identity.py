"""User, session, conversation and prompt of a request, for spans and log records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

_MAX_LENGTH: Final = 256
_SAFETY: Final = "safety_identifier"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Texts of the client, shortened. Never on metrics: their number is unlimited."""

    user_id: str | None = None
    session_id: str | None = None
    conversation_id: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None

    @classmethod
    def of(
        cls, body: Mapping[str, Any], metadata: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Self:
        """Return the identity of a request.

        Headers take precedence, because a proxy may set them; then `metadata` of the request, then
        `user` and `safety_identifier` of its body.
        """

        def known(name: str) -> str | None:
            return clean(headers.get(f"x-{name.replace('_', '-')}")) or clean(metadata.get(name))

        return cls(
            user_id=known("user_id") or clean(body.get("user")) or clean(body.get(_SAFETY)),
            session_id=known("session_id"),
            conversation_id=known("conversation_id"),
            prompt_name=clean(metadata.get("prompt_name")),
            prompt_version=clean(metadata.get("prompt_version")),
        )


def clean(found: object) -> str | None:
    """Return a text of at most 256 characters without control characters; None if none is left."""
    if not isinstance(found, str):
        return None
    return "".join(filter(str.isprintable, found[:_MAX_LENGTH])).strip() or None
