"""Masking of a provider's credentials in the texts that it returns."""

from base64 import b64encode
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urlsplit

_MASK: Final = "***"
# Shorter texts are not secrets, and masking them would garble other words.
_SHORTEST: Final = 4


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


def redactor(api_key: str | None, base_url: str) -> Redactor:
    """Return a Redactor for the key and for the URL's credentials in each form they are sent in."""
    parts = urlsplit(base_url)
    password = parts.password and unquote(parts.password)
    basic = f"{unquote(parts.username or '')}:{password or ''}".encode()
    encoded = b64encode(basic).decode() if parts.username or password else None
    return Redactor([api_key, password, parts.password, encoded])
