"""The text of a problem with an environment variable."""

import re
from typing import Final

_LONGEST_SHOWN: Final = 200
_PASSWORD: Final = re.compile(r"(://[^/@:,\s]*):(?!//).*@")


def explain(name: str, value: str, accepts: str, *, reason: str = "", secret: bool = False) -> str:
    """Return one line: the variable, its value unless that is secret, why not, what is accepted."""
    why = f" ({_without_password(reason)})" if reason else ""
    return f"{name}={'***' if secret else shown(value)} is not accepted{why}: give {accepts}"


def is_utf8(value: str) -> bool:
    """Whether the bytes of an environment variable were valid UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: str) -> str:
    """Return the value as a message repeats it: printable, shortened, without a password."""
    text = _without_password(value if value.isprintable() else ascii(value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _without_password(text: str) -> str:
    return _PASSWORD.sub(r"\1:***@", text)
