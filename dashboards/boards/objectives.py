"""Objectives: is what was promised kept, how much may still go wrong, and who is called?"""

from typing import Final

from grafana_foundation_sdk.builders import table, timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard

from alerts.windows import NORMAL, Burn
from dashboards import links, others
from dashboards.alert_panels import SEVERITIES, firing, which_fire
from dashboards.board import Row, assemble
from dashboards.legends import label
from dashboards.others import ALERT_SEVERITY, OBJECTIVE, SLO, SLO_SERVICE, Series
from dashboards.panels import Panel, Query, is_well, limited, lines, measured, prom
from dashboards.queries import aggregate, equals, matches, or_zero, ratio, series, total
from dashboards.variables import SERVICE

_BY: Final = (SLO_SERVICE, SLO)
_NAME: Final = label(SLO)
# Whatever the period is, the same rates call for somebody.
_PERIOD, (_PAGE, _TICKET) = next(iter(NORMAL.burns.items()))
_DAYS: Final = int(_PERIOD.removesuffix("d"))
_HOURS: Final = {"h": 1, "d": 24}


def board() -> Dashboard:
    return assemble(
        links.OBJECTIVES,
        "Whether the service keeps what was promised, how much may still go wrong, and who is "
        "called.",
        [
            Row("Is it well?", _well(), height=4, widths=(8, 8, 8)),
            Row(
                "What was promised, and what calls?",
                [_promised(), which_fire()],
                height=6,
                widths=(24, 24),
            ),
            Row("How much may still go wrong?", _budgets()),
            Row(
                "Does it burn so fast that somebody is called?",
                [
                    _burning("Was the last hour so bad that somebody must come?", _PAGE[0]),
                    _burning("Were the last six hours so bad that somebody must come?", _PAGE[1]),
                    _burning("Was the last day so bad that somebody should look?", _TICKET[0]),
                    _burning("Were the last three days so bad that somebody should?", _TICKET[1]),
                ],
                widths=(12,) * 4,
            ),
            Row("What did it cost, and how much called?", _spending()),
        ],
    )


def burn_rate(burn: Burn, days: int = _DAYS) -> float:
    """At how many times the rate that the budget of so many days allows the alert fires."""
    hours = int(burn.long[:-1]) * _HOURS[burn.long[-1]]
    return round(burn.percent / 100 * days * 24 / hours, 2)


def _of(metric: Series) -> str:
    """That of each objective of the chosen services."""
    return aggregate("max", series(metric, matches(SLO_SERVICE, f"${SERVICE.name}")), _BY)


def _burn(window: str) -> str:
    return ratio(_of(others.SLO_BAD[window]), _of(others.SLO_BUDGET))


def _spent() -> str:
    return f"{series(others.DAY_COST)} / on () group_left () {series(others.DAY_BUDGET)}"


def _well() -> list[Panel]:
    return [
        is_well(
            "How much of each budget is left?",
            "Of what may go wrong in the period of the objective; below 0 the promise is broken.",
            "percentunit",
            prom(_of(others.SLO_LEFT), _NAME),
            warn=0.25,
            bad=0,
        ),
        is_well(
            "How fast does each budget burn?",
            "In the last 5 minutes: at 1 it lasts for the period, above it does not.",
            "short",
            prom(_of(others.SLO_BURN), _NAME),
            warn=burn_rate(_TICKET[1]),
            bad=burn_rate(_PAGE[0]),
        ).decimals(1),
        is_well(
            "How much of the day's money is spent?",
            "In the last 24 hours, of what a day may cost.",
            "percentunit",
            prom(_spent(), label(others.SERVICE_NAME)),
            warn=0.8,
            bad=1,
        ).decimals(0),
    ]


def _promised() -> table.Panel:
    return measured(
        "Which objectives are there?",
        "What was promised for which time, and how it stands. They are set in "
        "alerts/objectives.yaml.",
        {SLO: "Objective", SLO_SERVICE: "Service"},
        {
            "Promised": (_of(others.SLO_TARGET), "percentunit"),
            "For": (f"86400 * {_of(others.SLO_DAYS)}", "s"),
            "Budget left": (_of(others.SLO_LEFT), "percentunit"),
            "Burn rate": (_of(others.SLO_BURN), "short"),
        },
    )


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
            "How has the budget gone?",
            "What is left of it. It comes back as what was bad moves out of the period.",
            "percentunit",
            [prom(_of(others.SLO_LEFT), _NAME)],
        ),
        lines(
            "What share is bad now?",
            "Of answers, in the last 5 minutes, and what the objective allows over its period.",
            "percentunit",
            bad,
        ),
        lines(
            "How many answers are judged?",
            "In a minute, by the objective, and how many of them were bad. A share of few answers "
            "says little.",
            "short",
            events,
        ),
    ]


def _burning(title: str, burn: Burn) -> timeseries.Panel:
    queries: list[Query] = [
        prom(_burn(window), f"{_NAME} {window}") for window in (burn.long, burn.short)
    ]
    panel = lines(
        title,
        f"How many times faster than allowed the budget burns, over {burn.long} and over "
        f"{burn.short}. The alert fires where both are above the line.",
        "short",
        queries,
    )
    return limited(panel, burn_rate(burn))


def _spending() -> list[Panel]:
    return [
        lines(
            "What did the last 24 hours cost?",
            "US dollars, at each moment for the 24 hours before it, and what a day may cost.",
            "currencyUSD",
            [
                prom(series(others.DAY_COST), label(others.SERVICE_NAME)),
                prom(series(others.DAY_BUDGET), "budget"),
            ],
        ),
        lines(
            "How many alerts fire?",
            "By severity, with those that are about no service. Empty in health.",
            "short",
            [
                prom(
                    or_zero(aggregate("count", firing(equals(ALERT_SEVERITY, severity)))), severity
                )
                for severity in SEVERITIES
            ],
        ),
    ]
