"""KEYS_FILE: API keys by the SHA-256 of the key, with scopes and daily limits."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, PrivateAttr

from app.config_file import NAME_ACCEPTS, SECRET, ConfigFileError, Name, Section, load

Scope = Literal["inference", "models"]
Unit = Literal["usd", "token"]
UNITS: Final[tuple[Unit, ...]] = ("usd", "token")

# Sums of a day stay below what SQLite's integers hold.
_MOST_USD: Final = 1e6
_MOST_TOKENS: Final = 10**15
# Each is four series of metrics.
_MOST_KEYS: Final = 1000


class Limits(Section):
    """Limits for each UTC day; None: no limit."""

    usd_per_day: Annotated[float, Field(gt=0, le=_MOST_USD)] | None = Field(
        None, description=f"a number of US dollars above 0, up to {_MOST_USD:.0f}"
    )
    tokens_per_day: Annotated[int, Field(ge=1, le=_MOST_TOKENS)] | None = Field(
        None, description=f"a whole number of tokens from 1 to {_MOST_TOKENS}"
    )

    def amounts(self) -> dict[Unit, Decimal]:
        """Return the limits that are set, exactly as the file has them."""
        given: dict[Unit, float | int | None] = {
            "usd": self.usd_per_day,
            "token": self.tokens_per_day,
        }
        return {unit: Decimal(str(limit)) for unit, limit in given.items() if limit is not None}


class Key(Section):
    """A key of a client."""

    name: Name
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="the SHA-256 of the key, 64 lower-case hexadecimal digits; never the key "
        "itself: python -m app.keys new NAME",
        json_schema_extra=SECRET,
    )
    scopes: list[Scope] = Field(
        ["inference", "models"], min_length=1, description='a list of "inference" and "models"'
    )
    team: Name | None = Field(None, description=NAME_ACCEPTS)
    limits: Limits = Field(Limits(), description="a table: usd_per_day, tokens_per_day")
    user_limits: Limits = Field(Limits(), description="a table: usd_per_day, tokens_per_day")

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the key."""
        return bytes.fromhex(self.sha256)


class KeysFile(Section):
    """The whole file."""

    keys: list[Key] = Field(
        min_length=1,
        max_length=_MOST_KEYS,
        description=f"a list of 1 to {_MOST_KEYS} keys: [[keys]]",
    )
    _path: Path | None = PrivateAttr(None)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the file's content. Raise ConfigFileError."""
        found = load(path, cls)
        if problems := list(_repeated(found.keys)):
            raise ConfigFileError(problems)
        found._path = path
        return found

    @property
    def path(self) -> Path | None:
        """Where it was read."""
        return self._path

    @property
    def has_limits(self) -> bool:
        """Whether any key has a limit."""
        return any(key.limits.amounts() or key.user_limits.amounts() for key in self.keys)


def _repeated(keys: list[Key]) -> Iterator[str]:
    for name, count in Counter(key.name for key in keys).items():
        if count > 1:
            yield f"key {name!r} exists twice: give each key a name of its own"
    by_digest: dict[str, list[str]] = {}
    for key in keys:
        by_digest.setdefault(key.sha256, []).append(repr(key.name))
    for names in by_digest.values():
        if len(names) > 1:
            yield f"keys {', '.join(names)} have the same sha256: create a key for each"
