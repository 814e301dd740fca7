"""Wire formats besides chat completions; none of them does any I/O."""

from collections.abc import Mapping
from typing import Final

from app.wire.formats.base import Exchange, Format, ResponseStream
from app.wire.formats.messages import Messages, count_tokens
from app.wire.formats.responses import Responses
from app.wire.formats.text_completions import TextCompletions

# By path.
FORMATS: Final[Mapping[str, Format]] = {
    "/v1/completions": TextCompletions(),
    "/v1/messages": Messages(),
    "/v1/responses": Responses(),
}


def format_of(path: str) -> Format | None:
    """Return the format of a path or of one below it; None for that of chat completions."""
    return FORMATS.get("/".join(path.split("/", 3)[:3]))


__all__ = ["FORMATS", "Exchange", "Format", "ResponseStream", "count_tokens", "format_of"]
