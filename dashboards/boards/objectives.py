"""Objectives: error budgets, burn rates, and the alerts about them."""

from typing import Final

from grafana_foundation_sdk.builders import table, timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard

from alerts.windows import NORMAL, Burn
from chatscope.names import LLM_RESPONSE_TIME, prometheus_label
from dashboards import links, others
from dashboards.alert_panels import SEVERITIES, count_firing, firing_alerts
from dashboards.board import Row, assemble
from dashboards.legends import label
from dashboards.others import OBJECTIVE, SERVICE_NAME, SLO, SLO_SERVICE, Series
from dashboards.panels import Panel, Query, counted, is_well, limited, lines, measured, prom
from dashboards.queries import RANGE, aggregate, matches, ratio, series, total
from dashboards.variables import SERVICE

_BY: Final = (SLO_SERVICE, SLO)
_NAME: Final = f"{label(SLO_SERVICE)} {label(SLO)}"
# The burn rates of the alerts are the same for all periods.
_PERIOD, (_PAGE, _TICKET) = next(iter(NORMAL.burns.items()))
_DAYS: Final = int(_PERIOD.removesuffix("d"))
_HOURS: Final = {"h": 1, "d": 24}


def board() -> Dashboard:
    return assemble(
        links.OBJECTIVES,
        "Error budgets of the objectives, how fast they burn, and the alerts about them.",
        [
            Row("Health", _health(), height=4),
            Row("Objectives", _objectives(), height=7, widths=(19, 5)),
            Row("Alerts", [firing_alerts()], height=6),
            Row("Error budgets", _budgets()),
            Row(
                "Burn rates",
                [
                    _burning("Burn rate, 1 hour", _PAGE[0], "critical"),
                    _burning("Burn rate, 6 hours", _PAGE[1], "critical"),
                    _burning("Burn rate, 1 day", _TICKET[0], "warning"),
                    _burning("Burn rate, 3 days", _TICKET[1], "warning"),
                ],
                height=10,
            ),
            Row("Spending and alerts", _spending()),
        ],
        # Budgets cover days.
        since="now-24h",
    )


def burn_rate(burn: Burn, days: int = _DAYS) -> float:
    """Return the burn rate at which an alert fires, for a period in days."""
    hours = int(burn.long[:-1]) * _HOURS[burn.long[-1]]
    return round(burn.percent / 100 * days * 24 / hours, 2)


def _of(metric: Series) -> str:
    """Return the series of each objective of the chosen services."""
    return aggregate("max", series(metric, matches(SLO_SERVICE, f"${SERVICE.name}")), _BY)


def _burn(window: str) -> str:
    return ratio(_of(others.SLO_BAD[window]), _of(others.SLO_BUDGET))


def _spent() -> str:
    return f"{series(others.DAY_COST)} / on () group_left () {series(others.DAY_BUDGET)}"


def _health() -> list[Panel]:
    return [
        is_well(
            "Lowest budget left",
            "Share of the error budget that is left, of the objective with the least. Below 0 an "
            "objective is broken.",
            "percentunit",
            prom(aggregate("min", _of(others.SLO_LEFT))),
            warn=0.25,
            bad=0,
        ).decimals(0),
        is_well(
            "Highest burn rate",
            "Of the last 5 minutes, of the objective that burns fastest: at 1 the budget lasts "
            "exactly for the period.",
            "short",
            prom(aggregate("max", _of(others.SLO_BURN))),
            warn=burn_rate(_TICKET[1]),
            bad=burn_rate(_PAGE[0]),
        ).decimals(1),
        is_well(
            "Daily budget used",
            "Cost of the last 24 hours as a share of the daily budget, of the service with the "
            "highest.",
            "percentunit",
            prom(aggregate("max", _spent())),
            warn=0.8,
            bad=1,
        ).decimals(0),
    ]


def _objectives() -> list[table.Panel]:
    share = f"1 - {_of(others.SLO_BAD['1d'])}"
    left = _of(others.SLO_LEFT)
    # At the rate of the last day; no value without a bad event in it.
    seconds = f"86400 * {_of(others.SLO_DAYS)} * clamp_min({left}, 0) / ({_burn('1d')} > 0)"
    service = prometheus_label(SERVICE_NAME)
    busy = f"sum by ({service}) (increase({series(LLM_RESPONSE_TIME, part='count')}[{RANGE}]))"
    with_objective = (
        f'label_replace({series(others.SLO_TARGET)}, "{service}", "$1", "{SLO_SERVICE}", "(.*)")'
    )
    return [
        measured(
            "Objectives",
            "Each objective with its state. Good: share of good events in the last 24 hours. "
            "Budget lasts: at the rate of the last 24 hours. Objectives are set in "
            "alerts/objectives.yaml.",
            {SLO_SERVICE: "Service", SLO: "Objective"},
            {
                "Target": (_of(others.SLO_TARGET), "percentunit"),
                "Period": (f"86400 * {_of(others.SLO_DAYS)}", "s"),
                "Good": (share, "percentunit"),
                "Budget left": (left, "percentunit"),
                "Burn rate": (_of(others.SLO_BURN), "short"),
                "Budget lasts": (seconds, "s"),
            },
        ),
        counted(
            "Without objectives",
            "Services with responses in the time shown that have no objective: their failures use "
            "up no budget. alerts/objectives.yaml names the service with objectives. "
            "Normally empty.",
            "short",
            prom(f"({busy} > 0) unless on ({service}) {with_objective}"),
            {service: "Service"},
            value="Responses",
        ),
    ]


def _budgets() -> list[Panel]:
    bad = [
        prom(_of(others.SLO_BAD["5m"]), _NAME),
        prom(_of(others.SLO_BUDGET), f"allowed: {_NAME}"),
    ]
    events = [
        prom(total(others.OBJECTIVE_EVENTS, by=(OBJECTIVE,)), label(OBJECTIVE)),
        prom(total(others.OBJECTIVE_BAD, by=(OBJECTIVE,)), f"bad: {label(OBJECTIVE)}"),
    ]
    return [
        lines(
            "Budget left",
            "Share of the error budget that is left. It returns as bad events leave the period.",
            "percentunit",
            [prom(_of(others.SLO_LEFT), _NAME)],
        ),
        lines(
            "Bad events",
            "Share of the events of the last 5 minutes that were bad, and the share that the "
            "objective allows over its period.",
            "percentunit",
            bad,
        ).axis_soft_max(0.1),
        lines(
            "Events per minute",
            "Events that each objective counts, and how many of them were bad. A share of few "
            "events says little.",
            "short",
            events,
        ),
    ]


def _burning(title: str, burn: Burn, severity: str) -> timeseries.Panel:
    queries: list[Query] = [
        prom(_burn(window), f"{_NAME} {window}") for window in (burn.long, burn.short)
    ]
    panel = lines(
        title,
        f"How many times faster than allowed the budget burns, over {burn.long} and over "
        f"{burn.short}. The {severity} alert fires where both are above the line.",
        "short",
        queries,
    )
    return limited(panel, burn_rate(burn), SEVERITIES[severity])


def _spending() -> list[Panel]:
    return [
        lines(
            "Cost of 24 hours",
            "US dollars of the 24 hours before each moment, and the daily budget.",
            "currencyUSD",
            [
                prom(series(others.DAY_COST), label(others.SERVICE_NAME)),
                prom(series(others.DAY_BUDGET), "budget"),
            ],
        ),
        lines(
            "Alert count",
            "Firing alerts by severity, with those that belong to no service. Normally empty.",
            "short",
            [prom(count_firing(severity), severity) for severity in SEVERITIES],
        ),
    ]
