"""Over how long the rules look: as they run, and short for a drill."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Burn:
    """So many percent of a budget gone in the long window, and it goes on in the short one."""

    percent: float
    short: str
    long: str


# Two that call a person at once, and two that can wait for the morning.
Burns = tuple[tuple[Burn, Burn], tuple[Burn, Burn]]


@dataclass(frozen=True)
class Windows:
    """The times of a set of rules, as Prometheus spells them; `interval` is between evaluations."""

    name: str
    # What the service tells, each second or once a minute.
    rate: str
    # Enough answers for a percentile.
    sample: str
    # What is scraped each 15 s.
    scraped: str
    # The usual of a service, with which a spike is compared.
    usual: str
    # Of the alerts about availability, which must come fast, and of all others.
    fast: str
    interval: str
    # How long it must hold: a short one for what is certain, and a longer one.
    soon: str
    hold: str
    # Within this time each service was asked whether it is ready; it is asked each 5 s.
    asked: str
    # A service that sent nothing for so long is silent. Longer than `asked`: without the Collector
    # nobody asks, and no service is to be missed for that.
    silent: str
    # Over what a trend is drawn, and for how long it must lead to the same end.
    trend: str
    trend_hold: str
    # How long a difference of the ledger must stay: longer than any part is behind the others.
    settled: str
    # For the pace of spending, how often it is in an hour, and how often a day is added up: so many
    # samples are not to be read every 15 s.
    pace: str
    paces_an_hour: int
    daily: str
    # Between samples of what is kept for the objectives, and the time that each is about.
    step: str
    events: str
    # How often each event is counted so, as the times overlap.
    weight: int
    # By the period of the objectives.
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
    # Longer than the minute that SDKs with default settings wait between two exports.
    silent="70s",
    trend="6h",
    trend_hold="30m",
    settled="10m",
    pace="15m",
    paces_an_hour=4,
    daily="1m",
    step="30s",
    # Two samples of an SDK that sends once a minute.
    events="2m",
    weight=4,
    burns={
        # The rates of the usual 30 days, 14, 6, 3 and 1 times what the budget allows, but for the
        # last: at its rate a week would be over before three days are.
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
    """The same rates, in windows that are clean again a minute after the trouble."""
    minute = 100 / 60 / period_hours
    page = (Burn(14 * minute, "20s", "1m"), Burn(6 * 2 * minute, "30s", "2m"))
    return page, (Burn(3 * 3 * minute, "40s", "3m"), Burn(1.4 * 5 * minute, "1m", "5m"))


# An SDK that sends once a minute is not for a drill.
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
    # A disk is not for a drill.
    trend="6h",
    trend_hold="30m",
    # A drill takes what is lost with a service that it kills for what it is.
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

# Without the service for so long it is down: longer than a restart takes.
DOWN_FOR: Final = "30s"
SILENT_FOR: Final = "10s"
