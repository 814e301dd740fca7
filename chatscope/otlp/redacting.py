"""The redaction of this process: applied to each text where it becomes bytes.

This package has no rules of its own; `redact_with` sets those of the application.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from .steps import Steps

# Bytes; longer texts are redacted piece by piece.
LONG: Final = 16_384
# A piece ends at one of these, the last one of the first kind that is there: no secret has one.
_ENDS: Final = ("\n", "\\n", '"', ". ", ", ", " ")
_BLOCK, _BLOCK_END = "-----BEGIN", "-----END"


class Redaction(Protocol):
    """Replaces secrets in texts; must not raise."""

    def suspects(self, data: bytes) -> bool:
        """Whether a text, given in UTF-8, may hold a secret."""

    def redact(self, found: str, data: bytes) -> str:
        """Return such a text without secrets; `data` is it in UTF-8."""

    def integer(self, found: int) -> int | str:
        """Return a number, or what is sent in its place."""

    def attribute(self, name: str, value: Any) -> tuple[Any, bool]:
        """Return the value of an attribute, and whether it is sent as it is."""


class _Process:
    redaction: Redaction | None = None


process: Final = _Process()
_forgetting: Final[list[Callable[[], None]]] = []


def redact_with(redaction: Redaction | None) -> None:
    """Redact all texts that are encoded in this process from now on; None: none of them."""
    process.redaction = redaction
    for forget in _forgetting:
        forget()


def forget_with(forget: Callable[[], None]) -> None:
    """Call `forget` when the redaction changes: it empties a cache of encoded texts."""
    _forgetting.append(forget)


def redacted_in_pieces(redaction: Redaction, data: bytes, steps: Steps) -> bytes:
    """Redact a long text, given in UTF-8, and let other threads run in between."""
    found: list[bytes] = []
    for piece in _pieces(data.decode()):
        part = piece.encode()
        if redaction.suspects(part):
            part = redaction.redact(piece, part).encode()
        found.append(part)
        steps.pause()
    return b"".join(found)


def redacted_bytes(data: bytes) -> bytes:
    """Redact bytes that are no text, each of them as one character."""
    redaction = process.redaction
    if redaction is None or not redaction.suspects(data):
        return data
    return redaction.redact(data.decode("latin-1"), data).encode("latin-1", "replace")


def redact_message(message: Any, encode: Callable[[str], bytes]) -> None:
    """Redact all texts of a protobuf message, in place: of an item that another encoder made."""
    if message.DESCRIPTOR.name == "KeyValue" and process.redaction is not None:
        shown, is_final = process.redaction.attribute(message.key, message.value.string_value)
        if is_final and message.value.HasField("string_value"):
            message.value.string_value = shown
            return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in value if field.is_repeated else (value,):
                redact_message(each, encode)
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, encode(value).decode())


def _pieces(text: str) -> Iterator[str]:
    """Divide a text where no secret can be: not inside of a PEM block either."""
    position = 0
    while position < len(text):
        end = _end_of_piece(text, position)
        piece = text[position:end]
        if piece.rfind(_BLOCK) > piece.rfind(_BLOCK_END):
            # The block's last line, and what follows it; without one, all that is left.
            block_end = text.find(_BLOCK_END, end)
            end = _end_of_piece(text, block_end) if block_end >= 0 else len(text)
            piece = text[position:end]
        yield piece
        position = end


def _end_of_piece(text: str, position: int) -> int:
    end = position + LONG
    if end >= len(text):
        return len(text)
    for mark in _ENDS:
        found = text.rfind(mark, position + LONG // 2, end)
        if found >= 0:
            return found + len(mark)
    return end
