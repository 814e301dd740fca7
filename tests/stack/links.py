"""Provisioned links between the backends, filled in with real data as Grafana does."""

import re
from dataclasses import dataclass
from typing import Any

from chatscope.cli.spans import Span
from tests.config.files import DATASOURCES, parsed

_VARIABLE = re.compile(r"\$\{([^}]+)\}|\$(\w+)")
_SHIFT = re.compile(r"(-?\d+)(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SIXTEEN_ZEROS = "0" * 16
# Replaced by the Prometheus datasource itself: four times `timeInterval`.
_RATE_INTERVAL = "$__rate_interval"


@dataclass(frozen=True)
class Asked:
    """A query as Grafana sends it, and its range in seconds since the epoch."""

    text: str
    start: float
    end: float


def settings(uid: str) -> dict[str, Any]:
    """Return the parsed jsonData of a datasource."""
    [found] = [source for source in parsed(DATASOURCES)["datasources"] if source["uid"] == uid]
    meant: dict[str, Any] = _without_escapes(found["jsonData"])
    return meant


def logs_of(span: Span) -> Asked:
    """Return the query of 'Logs for this span'."""
    options = settings("tempo")["tracesToLogsV2"]
    return _asked(options["query"], options, span)


def metrics_of(span: Span, name: str) -> Asked:
    """Return the query of the link to metrics with this name."""
    options = settings("tempo")["tracesToMetrics"]
    [query] = [query["query"] for query in options["queries"] if query["name"] == name]
    return _asked(query, options, span)


def rate_interval() -> str:
    """Return the value of $__rate_interval over a short range."""
    value, unit = _duration(settings("prometheus")["timeInterval"])
    return f"{4 * value}{unit}"


def _asked(query: str, options: dict[str, Any], span: Span) -> Asked:
    shifts = (_seconds(options["spanStartTimeShift"]), _seconds(options["spanEndTimeShift"]))
    # Truncated to whole milliseconds.
    start, end = (ns // 1_000_000 / 1000 for ns in (span.start, span.end))
    values = _variables(span, options.get("tags", []))

    def value(match: re.Match[str]) -> str:
        return match[0] if match[0] == _RATE_INTERVAL else values[match[1] or match[2]]

    return Asked(_VARIABLE.sub(value, query), start + shifts[0], end + shifts[1])


def _variables(span: Span, mapping: list[dict[str, str]]) -> dict[str, str]:
    own = {**span.resource, **span.attributes}
    labels = [f'{tag["value"]}="{own[tag["key"]]}"' for tag in mapping if tag["key"] in own]
    return {
        "__trace.traceId": span.trace_id.removeprefix(_SIXTEEN_ZEROS),
        "__span.name": span.name,
        "__tags": ", ".join(labels),
        **{f'__span.tags["{key}"]': str(value) for key, value in own.items()},
    }


def _without_escapes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_escapes(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_escapes(inner) for inner in value]
    if isinstance(value, str):
        # A single dollar sign would be a variable of the environment.
        assert "$" not in value.replace("$$", ""), f"{value}: $ instead of $$"
        return value.replace("$$", "$")
    return value


def _duration(text: str) -> tuple[int, str]:
    found = _SHIFT.fullmatch(text)
    assert found, f"{text}: not a duration that is known here"
    return int(found[1]), found[2]


def _seconds(text: str) -> int:
    value, unit = _duration(text)
    return value * _SECONDS[unit]
