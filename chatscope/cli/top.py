"""`chatscope top`: the models that respond now: requests, errors, response time, tokens, cost."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from chatscope.cli.errors import CommandError
from chatscope.cli.prometheus import Prometheus, Sample
from chatscope.cli.screen import clock, grid, money, safe, seconds
from chatscope.genai.operation import CANCELLED
from chatscope.names import (
    CLIENT_INFERENCE_DURATION,
    ERROR_TYPE,
    GEN_AI_REQUEST_MODEL,
    LLM_COST,
    LLM_RESPONSE_TIME,
    LLM_TOKEN_USAGE,
    OLDER_DURATION,
    OLDER_TOKENS,
    USAGE_INPUT_TOKENS,
    USAGE_OUTPUT_TOKENS,
    Metric,
    prometheus_label,
)

_SERVICE: Final = "service_name"
_MODEL: Final = prometheus_label(GEN_AI_REQUEST_MODEL)
_ERROR: Final = prometheus_label(ERROR_TYPE)
# Cancelled by the client, or by a service that stopped: nothing failed.
_FAILED: Final = f'{_ERROR}!~"|{CANCELLED}|shutting_down"'
# Of the same calls: responses as clients see them; calls of providers by the conventions' names,
# and by the older ones of other libraries. A model is counted by the first that its service has.
_DURATIONS: Final = (LLM_RESPONSE_TIME, CLIENT_INFERENCE_DURATION, OLDER_DURATION)
_HOUR: Final = 3_600
_WINDOW: Final = re.compile(r"[1-9]\d{0,5}[smhd]")


@dataclass(frozen=True)
class Row:
    """One model of one service; rates per second, `error_rate` from 0 to 1, the cost in USD."""

    service: str
    model: str
    requests: float = 0.0
    error_rate: float = 0.0
    p95_seconds: float | None = None
    tokens: float = 0.0
    cost_per_hour: float | None = None


def read(prometheus: Prometheus, window: str) -> list[Row]:
    """Return the models with requests in a window such as `1m`, the busiest first.

    Raise CommandError.
    """
    requests = _by_model(prometheus.query(_requests(window)))
    failed = _by_model(prometheus.query(_requests(window, _FAILED)))
    p95 = _by_model(prometheus.query(_p95(window)))
    tokens = _by_model(prometheus.query(_tokens(window)))
    cost = _by_model(prometheus.query(_sum(f"rate({LLM_COST.prometheus}[{window}])")))
    rows = [
        Row(
            *key,
            requests=rate,
            error_rate=min(1.0, failed.get(key, 0.0) / rate),
            p95_seconds=p95.get(key),
            tokens=tokens.get(key, 0.0),
            cost_per_hour=cost[key] * _HOUR if key in cost else None,
        )
        for key, rate in requests.items()
        if rate > 0
    ]
    return sorted(rows, key=lambda row: (-row.requests, row.service, row.model))


def check_window(text: str) -> None:
    """Raise CommandError for a text that is no duration of PromQL."""
    if not _WINDOW.fullmatch(text):
        raise CommandError(f"--window must be a duration such as 1m or 1h (got {text!r})")


def _requests(window: str, condition: str = "") -> str:
    return _first(
        _DURATIONS, lambda m: _sum(f"rate({m.prometheus}_count{{{condition}}}[{window}])")
    )


def _p95(window: str) -> str:
    return _first(
        _DURATIONS,
        lambda m: (
            "histogram_quantile(0.95, " + _sum(f"rate({m.prometheus}_bucket[{window}])", "le") + ")"
        ),
    )


def _tokens(window: str) -> str:
    product = _sum(f"rate({LLM_TOKEN_USAGE.prometheus}[{window}])")
    conventions = " + ".join(
        _sum(f"rate({metric.prometheus}[{window}])")
        for metric in (USAGE_INPUT_TOKENS, USAGE_OUTPUT_TOKENS)
    )
    older = _sum(f"rate({OLDER_TOKENS.prometheus}_sum[{window}])")
    return " or ".join((product, f"({conventions})", older))


def _first(metrics: tuple[Metric, ...], expression: Callable[[Metric], str]) -> str:
    return " or ".join(map(expression, metrics))


def _sum(expression: str, *labels: str) -> str:
    return f"sum by ({', '.join((_SERVICE, _MODEL, *labels))}) ({expression})"


def _by_model(samples: list[Sample]) -> dict[tuple[str, str], float]:
    return {
        (sample.labels.get(_SERVICE, ""), sample.labels.get(_MODEL, "")): sample.value
        for sample in samples
        if math.isfinite(sample.value)
    }


def as_object(rows: list[Row], window: str) -> dict[str, Any]:
    """Return the rows for JSON."""
    return {"window": window, "models": [asdict(row) for row in rows]}


def show(rows: list[Row], window: str) -> RenderableType:
    """Return the table of the rows, and of their sums if there are several."""
    if not rows:
        return f"No requests in the last {window}."
    table = grid(
        {"header": "model", "overflow": "ellipsis", "no_wrap": True, "max_width": 26},
        {"header": "service", "overflow": "ellipsis", "no_wrap": True, "max_width": 12},
        *(
            {"header": header, "justify": "right", "no_wrap": True}
            for header in ("req/s", "errors", "p95", "tok/s", "$/h")
        ),
    )
    for row in rows:
        _add(table, row)
    if len(rows) > 1:
        _add(table, _total(rows), "bold")
    return table


def _add(table: Table, row: Row, style: str = "") -> None:
    errors = f"{row.error_rate:.1%}"
    table.add_row(
        safe(row.model or "(unknown)"),
        safe(row.service),
        f"{row.requests:.2f}",
        f"[red]{errors}[/]" if row.error_rate > 0 else errors,
        "-" if row.p95_seconds is None else seconds(row.p95_seconds),
        f"{row.tokens:.0f}",
        "-" if row.cost_per_hour is None else money(row.cost_per_hour),
        style=style,
    )


def _total(rows: list[Row]) -> Row:
    requests = sum(row.requests for row in rows)
    failed = sum(row.requests * row.error_rate for row in rows)
    costs = [row.cost_per_hour for row in rows if row.cost_per_hour is not None]
    return replace(
        Row("", "all"),
        requests=requests,
        error_rate=failed / requests,
        tokens=sum(row.tokens for row in rows),
        cost_per_hour=sum(costs) if costs else None,
    )


def follow(console: Console, prometheus: Prometheus, window: str, interval: float) -> None:
    """Show the rows until Ctrl-C; an unreachable Prometheus is shown, and asked again."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_screen(prometheus, window), refresh=True)
            time.sleep(interval)


def _screen(prometheus: Prometheus, window: str) -> Group:
    now = clock(time.time_ns())[:8]
    body: RenderableType
    try:
        body = show(read(prometheus, window), window)
    except CommandError as error:
        body = safe(error, "red")
    return Group(safe(f"Models in the last {window} · {now} · Ctrl-C leaves", "dim"), "", body)
