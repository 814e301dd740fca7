"""Masking of credentials and prompts in the texts that a provider returns."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from chatscope.redaction import credentials_in, redact

_MASK: Final = "***"
# Shorter texts are not secrets, and masking them would garble other words.
_SHORTEST: Final = 4
_MAX_DETAIL_LENGTH: Final = 500
# Of a prompt, a text may repeat single words of at most this length.
_LONGEST_WORD: Final = 4
_WORD: Final = re.compile(r"\w+")
_OMITTED: Final = "…"
# Words of a prompt that are compared with a text; the first ones of a longer prompt.
_MAX_PROMPT_WORDS: Final = 200_000


class Redactor:
    """Replaces secrets in texts."""

    def __init__(self, secrets: Iterable[str | None]) -> None:
        found = {secret for secret in secrets if secret and len(secret) >= _SHORTEST}
        self._secrets = sorted(found, key=len, reverse=True)  # a secret may contain another

    def __call__(self, text: str) -> str:
        """Return the text with each secret masked."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text


class Cleaner:
    """Makes the texts of one response's failure fit to be sent and recorded."""

    def __init__(self, redact: Redactor, body: Mapping[str, Any]) -> None:
        """`body` of the request whose texts must not be recorded."""
        self._redact = redact
        self._body = body

    def sent(self, text: str) -> str:
        """Return the text without secrets, shortened."""
        return redact(self._redact(text))[:_MAX_DETAIL_LENGTH]

    def recorded(self, text: str) -> str:
        """Return the text without secrets and without words of the request, shortened."""
        return without_words_of(self._body, self.sent(text))


def redactor(api_key: str | None, base_url: str) -> Redactor:
    """Return a Redactor for the key and for the URL's credentials in each form they are sent in."""
    return Redactor([api_key, *credentials_in(base_url)])


def without_words_of(body: Mapping[str, Any], text: str) -> str:
    """Return `text` without the words that it shares with the texts of a request.

    Omitted are two or more words in the same order as in the request, and longer single words.
    Parameters that are part of every request, such as the name of the model, are kept.
    """
    given = _words(body)
    known = f" {' '.join(given)} "
    found = list(_WORD.finditer(text))
    lowered = [match.group().lower() for match in found]
    kept, end, position = [], 0, 0
    while position < len(found):
        length = _shared_length(lowered, position, known)
        if length > 1 or (length and len(lowered[position]) > _LONGEST_WORD):
            kept += [text[end : found[position].start()], _OMITTED]
            end = found[position + length - 1].end()
        position += max(length, 1)
    return "".join([*kept, text[end:]])


def _shared_length(words: Sequence[str], position: int, known: str) -> int:
    """Return how many words from `position` on are in `known`, in this order."""
    length = 0
    while position + length < len(words):
        run = " ".join(words[position : position + length + 1])
        if f" {run} " not in known:
            break
        length += 1
    return length


def _words(body: Mapping[str, Any]) -> list[str]:
    """Return the words of all texts of a request, in lower case."""
    words: list[str] = []
    pending: list[Any] = [value for name, value in body.items() if name != "model"]
    pending.reverse()
    while pending and len(words) < _MAX_PROMPT_WORDS:
        match pending.pop():
            case str(text):
                words += _WORD.findall(text.lower())
            case dict(fields):
                pending += [v for k, v in reversed(fields.items()) if k not in ("role", "type")]
            case list(items):
                pending += reversed(items)
    return words
