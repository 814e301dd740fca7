"""What is planted: a text of its own for each place, of which no part may be found anywhere."""

import base64
import json
import secrets
from dataclasses import dataclass, field
from typing import Final

_CORE_BYTES: Final = 6
# Of a payment card; ten more digits and the checksum make one.
_ISSUER: Final = "41111"


@dataclass
class Garden:
    """The places, with what is searched for."""

    planted: dict[str, str] = field(default_factory=dict)
    _cards: int = 0

    def secret(self, place: str) -> str:
        """Return a token with the shape of an API key, for a text that is recorded."""
        return f"sk-{self._core(place)}"

    def words(self, place: str) -> str:
        """Return a word without a shape, for a text that is not recorded at all."""
        return self._core(place)

    def jwt(self, place: str) -> str:
        """Return a token whose payload has the core in the clear."""
        head = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
        return f"{head}.eyJ{self._core(place)}.{secrets.token_hex(8)}"

    def block(self, place: str) -> str:
        """Return a private key."""
        kind = "RSA PRIVATE " + "KEY"
        return f"-----BEGIN {kind}-----\n{self._core(place)}\n-----END {kind}-----"

    def mail(self, place: str) -> str:
        """Return an e-mail address."""
        return f"{self._core(place)}@example.com"

    def url(self, place: str) -> str:
        """Return a URL with a password."""
        return f"postgres://me:{self._core(place)}@db.example.com/x"

    def card(self, place: str) -> str:
        """Return the number of a payment card."""
        self._cards += 1
        digits = f"{_ISSUER}{self._cards:02}{secrets.randbelow(10**8):08}"
        total = 0
        for position, digit in enumerate(reversed(digits)):
            value = int(digit) * (2 - position % 2)
            total += value - 9 if value > 9 else value
        number = f"{digits}{-total % 10}"
        return self._remember(place, number)

    def phone(self, place: str) -> str:
        """Return a phone number."""
        return self._remember(place, f"+4917{secrets.randbelow(10**9):09}")

    def _core(self, place: str) -> str:
        return self._remember(place, f"cnry{len(self.planted):03}{secrets.token_hex(_CORE_BYTES)}")

    def _remember(self, place: str, text: str) -> str:
        assert place not in self.planted, place
        self.planted[place] = text
        return text

    def found_in(self, where: str, text: str) -> set[tuple[str, str]]:
        """Return the places whose canaries a text contains."""
        lowered = text.lower()
        return {(place, where) for place, core in self.planted.items() if core in lowered}

    def report(self) -> str:
        """Return the list of places."""
        return "\n".join(f"  {number:3} {place}" for number, place in enumerate(self.planted, 1))


def as_json(value: object) -> bytes:
    """Return the body of a request."""
    return json.dumps(value).encode()
