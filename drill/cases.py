"""What is broken, and what is right to be told of it; all else is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chatscope.names import prometheus_label
from dashboards.others import JOB, SERVICE_NAME
from drill import troubles
from drill.ground import APP, Alert
from drill.troubles import Trouble

_SERVICE: Final = prometheus_label(SERVICE_NAME)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that breaks. Alerts are spelled `name severity`.

    `told`: those that must come, and end when it is mended, but for those that are `lasting`;
    `also`: what the same cause may lead to; `inhibited`: what must fire and must not be told.
    `labels`: what its alerts carry; those with other values are of another case, or wrong.
    `stays`: for so many seconds at least it stays broken, so that what is wrong has time to come.
    """

    name: str
    breaks: str
    trouble: Trouble
    told: frozenset[str]
    also: frozenset[str] = frozenset()
    inhibited: frozenset[str] = frozenset()
    lasting: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    stays: float = 0.0

    @property
    def alone(self) -> bool:
        """It hurts what all services share."""
        return _SERVICE not in self.labels

    def owns(self, alert: Alert) -> bool:
        """Whether it is about what is broken here."""
        return self.alone or all(alert["labels"].get(k) == v for k, v in self.labels.items())


def kind(alert: Mapping[str, Any]) -> str:
    return f"{alert['labels']['alertname']} {alert['labels'].get('severity')}"


def _of(name: str) -> dict[str, str]:
    return {_SERVICE: f"drill-{name}"}


_FAILING: Final = _of("failing")
# The service that the objectives are about.
PROMISED: Final = _FAILING[_SERVICE]

CASES: Final = (
    Case(
        name="failing",
        breaks="each answer of the model fails",
        trouble=troubles.asked(PROMISED, troubles.failing),
        told=frozenset(
            {
                "ErrorRateHigh warning",
                "ModelServerErrors warning",
                "ErrorLogBurst warning",
                "NewErrorPattern warning",
                "AvailabilityBudgetBurn critical",
            }
        ),
        # When it is no longer urgent: over an hour too much has failed all the same.
        also=frozenset({"AvailabilityBudgetBurn warning"}),
        lasting=frozenset({"AvailabilityBudgetBurn warning"}),
        labels=_FAILING,
    ),
    Case(
        name="stalling",
        breaks="each answer pauses on its way",
        trouble=troubles.asked("drill-stalling", troubles.stalling),
        told=frozenset({"AnswersStall warning"}),
        # The pause may come before the first words.
        also=frozenset({"FirstTokenSlow warning"}),
        labels=_of("stalling"),
    ),
    Case(
        name="costing",
        breaks="an answer costs what a day may",
        trouble=troubles.asked("drill-costing", troubles.dear),
        told=frozenset({"CostPerHourHigh warning", "DailyBudgetExceeded critical"}),
        inhibited=frozenset({"DailyBudgetSpent warning"}),
        # What was spent is spent, for a day.
        lasting=frozenset({"DailyBudgetExceeded critical"}),
        labels=_of("costing"),
    ),
    Case(
        name="flood",
        breaks="all sockets of a service are taken",
        trouble=troubles.flooded("drill-flood"),
        told=frozenset({"SocketsNearLimit warning"}),
        labels=_of("flood"),
    ),
    Case(
        name="killed",
        breaks="the service is killed",
        trouble=troubles.app_killed,
        told=frozenset({"ServiceDown critical"}),
        inhibited=frozenset({"ServiceSilent critical"}),
        labels={_SERVICE: APP},
    ),
    Case(
        name="loki",
        breaks="Loki is stopped",
        trouble=troubles.stopped("loki"),
        told=frozenset({"StoreDown critical"}),
        labels={JOB: "loki"},
    ),
    Case(
        name="collector",
        breaks="the Collector is stopped",
        trouble=troubles.stopped("collector"),
        told=frozenset({"CollectorDown critical"}),
        labels={JOB: "collector"},
        # No service is heard, and none is to be missed for it: ServiceSilent would take 40 s.
        stays=50.0,
    ),
)


def rounds(cases: tuple[Case, ...] = CASES) -> list[list[Case]]:
    """Those that can be run together, and then each that cannot."""
    together = [case for case in cases if not case.alone]
    return [each for each in (together, *([case] for case in cases if case.alone)) if each]
