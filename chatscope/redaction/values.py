"""Values that are secrets because of the variable that has them."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from .rules import is_random

_SECRET_VARIABLE: Final = re.compile(
    r"(?i)(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSW(?:OR)?D|PASS|PASSPHRASE|PAT|DSN|AUTH)$"
)
_HEADERS_VARIABLE: Final = re.compile(r"OTEL_EXPORTER_OTLP_(?:[A-Z]+_)?HEADERS")
# A shorter value, or one of ordinary words such as `development`, stands in many texts that have
# nothing to do with it.
_SHORTEST: Final = 8


def secret_values(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the values of variables that are named like secrets, and passwords in URLs.

    Those of at least 8 characters that are not words: with digits, or in both cases.
    """
    found = {value.strip() for value in _values(environ)}
    return frozenset(
        value
        for value in found
        if len(value) >= _SHORTEST and is_random(value) and not value.startswith(("/", "~", "./"))
    )


def _values(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        if _HEADERS_VARIABLE.fullmatch(name):
            for header in value.split(","):
                yield from unquote(header.partition("=")[2]).split()
        elif _SECRET_VARIABLE.search(name):
            yield value
        if "://" in value:
            yield from credentials_in(value)


def credentials_in(url: str) -> Iterator[str]:
    """Yield the password of a URL: as it is, as it is written there, and as HTTP sends it."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return
    if parts.password:
        yield parts.password
        yield unquote(parts.password)
    if parts.username or parts.password:
        basic = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        yield b64encode(basic.encode()).decode()
