"""Home: health, firing alerts and recent failures."""

from grafana_foundation_sdk.builders import common, stat
from grafana_foundation_sdk.models.dashboard import Dashboard, DynamicConfigValue

from chatscope.names import LLM_COST
from dashboards import answers, links, others
from dashboards.alert_panels import SEVERITIES, count_firing, firing_alerts
from dashboards.board import Row, assemble
from dashboards.panels import Panel, is_well, prom, with_query
from dashboards.queries import aggregate, increase, or_zero, series


def board() -> Dashboard:
    return assemble(
        links.HOME,
        "Health of the chosen services, the alerts that fire, and the latest failures.",
        [
            Row("Health", _health(), height=4),
            Row("Alerts", [firing_alerts()], height=8),
            Row("Failures", [answers.failures(50)], height=12),
        ],
    )


def _health() -> list[Panel]:
    down = aggregate("count", f"{series(others.UP)} == 0")
    return [
        answers.last_sample(),
        answers.error_rate(),
        answers.response_p95(),
        is_well(
            "Cost",
            "US dollars for all responses in the time shown, by the price table.",
            "currencyUSD",
            prom(increase(LLM_COST)),
            over_range=True,
        ).decimals(2),
        _alerts(),
        is_well(
            "Components down",
            "Components of the stack (Collector, Prometheus, Loki, Tempo, Alertmanager) that "
            "Prometheus cannot scrape, whichever service is chosen. Normally empty.",
            "short",
            prom(or_zero(down)),
            warn=1,
            bad=1,
            over_range=True,
        ),
    ]


def _alerts() -> stat.Panel:
    """Return a number for each severity: a warning must not look like an outage."""
    counts = [prom(count_firing(severity), severity) for severity in SEVERITIES]
    panel = is_well(
        "Active alerts",
        "Alerts of the chosen services, and those that belong to no service, by severity. Silences "
        "of Alertmanager are not considered. Normally empty.",
        "short",
        counts[0],
        warn=1,
        over_range=True,
    )
    panel = with_query(panel, counts[1])
    for severity, color in SEVERITIES.items():
        steps = [{"value": None, "color": "green"}, {"value": 1, "color": color}]
        thresholds = {"mode": "absolute", "steps": steps}
        panel = panel.override_by_name(severity, [DynamicConfigValue("thresholds", thresholds)])
    return panel.text(common.VizTextDisplayOptions().title_size(12))
