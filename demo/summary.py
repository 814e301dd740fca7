"""A summary of locust's statistics, by transport and kind of request, with the failures."""

from locust.stats import RequestStats, StatsEntry

from demo.base_user import FIRST_TOKEN, TRANSPORTS

_COLUMNS = "{:<9}  {:<16}  {:>6}  {:>6}  {:>7}  {:>7}  {:>18}"
_TITLES = ("transport", "request", "count", "failed", "p50 ms", "p95 ms", "first token p50 ms")


def responded(stats: RequestStats) -> bool:
    """Return whether any response contained text."""
    return any(entry.total_content_length for entry in stats.entries.values())


def table(stats: RequestStats) -> str:
    """Return a row for each transport and kind of request, then one for each kind of failure."""
    entries = [entry for entry in stats.entries.values() if entry.method in TRANSPORTS]
    entries.sort(key=lambda entry: (TRANSPORTS.index(entry.method), entry.name))
    rows = [_COLUMNS.format(*_TITLES), *(_row(stats, entry) for entry in entries)]
    rows += [
        f"{error.occurrences} failed: {error.method}, {error.name}: {error.error}"
        for error in stats.errors.values()
    ]
    return "\n".join(rows)


def _row(stats: RequestStats, entry: StatsEntry) -> str:
    first = stats.entries.get((entry.name, f"{entry.method} {FIRST_TOKEN}"))
    figures = (
        entry.num_requests,
        entry.num_failures,
        _milliseconds(entry, 0.5),
        _milliseconds(entry, 0.95),
        _milliseconds(first, 0.5) if first else "",
    )
    return _COLUMNS.format(entry.method, entry.name, *figures)


def _milliseconds(entry: StatsEntry, share: float) -> str:
    return str(round(entry.get_response_time_percentile(share)))
