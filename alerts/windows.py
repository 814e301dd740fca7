"""Time ranges of the rules: normal ones, and short ones for the fire drill."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Burn:
    """A share of the error budget used in the long window, confirmed in the short one."""

    percent: float
    short: str
    long: str


# Two that page immediately, and two tickets.
Burns = tuple[tuple[Burn, Burn], tuple[Burn, Burn]]


@dataclass(frozen=True)
class Windows:
    """Time ranges of a rule set as Prometheus durations; `interval` is between evaluations."""

    name: str
    # For metrics of services, exported each second or once a minute.
    rate: str
    # Enough responses for a percentile.
    sample: str
    # For metrics that are scraped every 15 s.
    scraped: str
    # Reference range of a service, with which a spike is compared.
    usual: str
    # Evaluation intervals: of alerts about availability, and of all others.
    fast: str
    interval: str
    # How long a condition must hold: short if it is certain, and longer.
    soon: str
    hold: str
    # Range that contains a readiness check of each service; checks are made every 5 s.
    asked: str
    # A service without metrics for this time is silent. Longer than `asked`: without the Collector
    # no checks are made, and no service must be reported for that.
    silent: str
    # Range of a trend, and how long it must predict the same.
    trend: str
    trend_hold: str
    # How long a difference of the ledger must last: longer than any component lags behind.
    settled: str
    # For the rate of spending: its range, the number of ranges per hour, and the interval of daily
    # sums, which are too expensive for every 15 s.
    pace: str
    paces_an_hour: int
    daily: str
    # Interval of the samples recorded for the objectives, and the range of each.
    step: str
    events: str
    # Number of samples that count the same event, because ranges overlap.
    weight: int
    # By period of the objectives.
    burns: Mapping[str, Burns]


NORMAL: Final = Windows(
    name="normal",
    rate="5m",
    sample="10m",
    scraped="5m",
    usual="1h",
    fast="10s",
    interval="15s",
    soon="1m",
    hold="5m",
    asked="30s",
    # Longer than the minute between two exports of SDKs with default settings.
    silent="70s",
    trend="6h",
    trend_hold="30m",
    settled="10m",
    pace="15m",
    paces_an_hour=4,
    daily="1m",
    step="30s",
    # Two samples of an SDK that exports once a minute.
    events="2m",
    weight=4,
    burns={
        # The usual burn rates for 30 days: 14, 6, 3 and 1 times the budget's rate. The last one is
        # higher here, because at rate 1 a week would end before three days had passed.
        "7d": (
            (Burn(8.5, "5m", "1h"), Burn(21, "30m", "6h")),
            (Burn(43, "2h", "1d"), Burn(60, "6h", "3d")),
        ),
        "14d": (
            (Burn(4.25, "5m", "1h"), Burn(10.5, "30m", "6h")),
            (Burn(21.5, "2h", "1d"), Burn(30, "6h", "3d")),
        ),
    },
)


def _drilled(period_hours: int) -> Burns:
    """Return the same burn rates in windows that are empty a minute after the repair."""
    minute = 100 / 60 / period_hours
    page = (Burn(14 * minute, "20s", "1m"), Burn(6 * 2 * minute, "30s", "2m"))
    return page, (Burn(3 * 3 * minute, "40s", "3m"), Burn(1.4 * 5 * minute, "1m", "5m"))


# SDKs that export once a minute are not supported in a drill.
DRILL: Final = Windows(
    name="drill",
    rate="30s",
    sample="30s",
    scraped="45s",
    usual="1m",
    fast="5s",
    interval="5s",
    soon="5s",
    hold="10s",
    asked="15s",
    silent="25s",
    # A drill fills no disk.
    trend="6h",
    trend_hold="30m",
    # In a drill, losses with a killed service are expected.
    settled="10m",
    pace="30s",
    paces_an_hour=120,
    daily="5s",
    step="5s",
    events="20s",
    weight=4,
    burns={"7d": _drilled(7 * 24), "14d": _drilled(14 * 24)},
)
ALL: Final = {windows.name: windows for windows in (NORMAL, DRILL)}

# A service that is not ready for this time is down: longer than a restart.
DOWN_FOR: Final = "30s"
SILENT_FOR: Final = "10s"
