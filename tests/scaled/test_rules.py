"""Rules of the scaled stack: Thanos evaluates those of metrics, Loki those of log lines."""

from ledger import otlp
from stack.secrets import telemetry_headers
from stack.waiting import poll_until
from tests.running import Stack

# Both kinds of rules are evaluated once a minute at the latest.
_FIRES_SECONDS = 240.0


def test_alert_of_loki_is_in_thanos_for_dashboards(stack: Stack) -> None:
    service = "test-scaled-rules"
    record = otlp.line("a new kind of failure")
    record.severity_text = "ERROR"
    with otlp.sender(stack.facts["AGENT2_URL"], telemetry_headers(stack.facts)) as sender:
        sender.send(otlp.lines(service, record))
    series = f'ALERTS{{alertname="NewErrorPattern",service_name="{service}"}}'
    poll_until(
        lambda: stack.backends.prometheus(f"last_over_time({series}[10m])"),
        "the alert in Thanos",
        _FIRES_SECONDS,
    )


def test_recorded_series_are_there_once(stack: Stack) -> None:
    """Receivers and ruler have labels of their own, which a query removes."""
    query = 'count by (signal) ({__name__="chatscope:telemetry_stored:rate"})'

    def counts() -> dict[str, float]:
        found = stack.backends.prometheus(query)
        return {each.labels["signal"]: each.value for each in found}

    wanted = {"logs": 1.0, "points": 1.0, "spans": 1.0}
    poll_until(lambda: counts() == wanted, "three recorded rates", _FIRES_SECONDS)
    labels = {name for each in stack.backends.prometheus("up") for name in each.labels}
    assert labels == {"__name__", "instance", "job"}
