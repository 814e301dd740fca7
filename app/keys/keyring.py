"""The keys that clients may use, found by the key that a client presents."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from app.keys.file import Key

# Recognizable for secret scanners.
PREFIX: Final = "cs-"
_KEY_BYTES: Final = 32


class Keyring:
    """Finds keys in a time that does not depend on how much of a key is right."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.replace(keys)

    def replace(self, keys: Sequence[Key]) -> None:
        """Use other keys from now on."""
        self._keys = [(key.digest, key) for key in keys]

    @property
    def keys(self) -> list[Key]:
        """All keys."""
        return [key for _, key in self._keys]

    def current(self, key: Key) -> Key | None:
        """Return the entry that a key has now; None if it was removed or replaced."""
        return next((each for each in self.keys if each.sha256 == key.sha256), None)

    def find(self, presented: str) -> Key | None:
        """Return the key with this text; every key is compared, in constant time."""
        digest = digest_of(presented)
        found = None
        for expected, key in self._keys:
            if hmac.compare_digest(expected, digest):
                found = key
        return found


def new_key() -> str:
    """Return a random key of 256 bits: a hash without salt or stretching protects it."""
    return f"{PREFIX}{secrets.token_urlsafe(_KEY_BYTES)}"


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
