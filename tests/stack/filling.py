"""Replaces variables in queries as Grafana does: chosen values, and built-in variables."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from tests.stack.boards import Variable

# $name, ${name}, ${name:format}, [[name]]; not a group of a regular expression ($1).
_VARIABLE = re.compile(r"\$(?P<a>[A-Za-z_]\w*)|\$\{(?P<b>[A-Za-z_]\w*)(?::(?P<format>\w+))?\}")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
# The scrape interval (prometheus.yml): the minimum meaningful step.
_STEP = 15


class UnknownVariableError(LookupError):
    """A variable that the dashboard does not have; Grafana would send it unchanged."""


@dataclass(frozen=True)
class Window:
    """A dashboard's time range, in seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> int:
        """Its length."""
        return max(1, round(self.end - self.start))


@dataclass(frozen=True)
class Choice:
    """The selection of a variable: some of its values, or a text for all of them (`raw`)."""

    values: tuple[str, ...] = ()
    raw: str | None = None
    # If only one value can be chosen, Grafana inserts it as a text, not as a pattern.
    pattern: bool = True


def step(interval: str = "") -> int:
    """Return $__interval, in seconds, of a short range on a usual screen, at least `interval`."""
    found = re.fullmatch(r">?(\d+)(ms|[smhd])", interval)
    least = int(found[1]) * _SECONDS[found[2]] if found else 0
    return int(max(_STEP, least))


def times(window: Window, interval: str = "") -> dict[str, Choice]:
    """Return Grafana's built-in variables."""
    every = step(interval)
    seconds = window.seconds
    texts = {
        "__interval": f"{every}s",
        "__interval_ms": str(every * 1000),
        "__auto": f"{every}s",
        "__rate_interval": f"{max(every + _STEP, 4 * _STEP)}s",
        "__rate_interval_ms": str(max(every + _STEP, 4 * _STEP) * 1000),
        "__range": f"{seconds}s",
        "__range_s": str(seconds),
        "__range_ms": str(seconds * 1000),
        "__from": str(int(window.start * 1000)),
        "__to": str(int(window.end * 1000)),
    }
    return {name: Choice(raw=text) for name, text in texts.items()}


def at_first(variable: Variable) -> Choice:
    """Return the default selection: all values, if there is a text for that, or the first."""
    if variable.include_all and variable.all_value:
        return Choice(raw=variable.all_value)
    if variable.kind in ("custom", "interval"):
        return Choice((variable.current,), pattern=False)
    return Choice(raw=variable.current)


def fill(text: str, store: str, chosen: Mapping[str, Choice]) -> str:
    """Return the text as it is sent to the backend. Raises UnknownVariableError."""

    def value(found: re.Match[str]) -> str:
        name = found["a"] or found["b"]
        if name not in chosen:
            raise UnknownVariableError(f"no variable ${name}")
        choice = chosen[name]
        return choice.raw if choice.raw is not None else _spelt(choice, store, found["format"])

    return _VARIABLE.sub(value, text)


def _spelt(choice: Choice, store: str, kind: str | None) -> str:
    if kind is None:
        return _usual(choice, store)
    return _FORMATS[kind](choice.values)


def _usual(choice: Choice, store: str) -> str:
    if store == "tempo":
        return "|".join(choice.values)
    if store not in ("prometheus", "loki"):
        return _FORMATS["glob"](choice.values)
    if not choice.pattern:
        return choice.values[0].replace("\\", "\\\\").replace("'", "\\\\'")
    escaped = [_escaped_in_string(value) for value in choice.values]
    joined = "|".join(escaped)
    return f"({joined})" if store == "prometheus" and len(escaped) > 1 else joined


def _escaped_in_string(value: str) -> str:
    # For a pattern in double quotes, so each backslash is doubled.
    return re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value.replace("\\", "\\\\\\\\"))


def _regex(values: tuple[str, ...]) -> str:
    escaped = [re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _glob(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else f"{{{','.join(values)}}}"


_FORMATS: dict[str, Callable[[tuple[str, ...]], str]] = {
    "csv": ",".join,
    "doublequote": lambda values: ",".join(f'"{value}"' for value in values),
    "glob": _glob,
    "percentencode": lambda values: quote(_glob(values), safe=""),
    "pipe": "|".join,
    "raw": ",".join,
    "regex": _regex,
    "singlequote": lambda values: ",".join(f"'{value}'" for value in values),
    "text": " + ".join,
}
