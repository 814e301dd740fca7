"""The cases of the drill: injected faults and expected alerts; any other alert is a problem."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chatscope.names import prometheus_label
from dashboards.others import JOB, SERVICE_NAME
from drill import faults
from drill.faults import Fault
from drill.target import APP, Alert

_SERVICE: Final = prometheus_label(SERVICE_NAME)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault and its alerts, written as `name severity`.

    `expected`: alerts that must arrive, and end after the repair unless they are in `lasting`;
    `allowed`: further alerts that the fault may cause; `inhibited`: alerts that must fire without
    a message. `labels`: labels of all its alerts; an alert with other values belongs to another
    case or is a problem. `min_seconds`: minimum duration of the fault, so that unexpected alerts
    have the time to arrive.
    """

    name: str
    description: str
    fault: Fault
    expected: frozenset[str]
    allowed: frozenset[str] = frozenset()
    inhibited: frozenset[str] = frozenset()
    lasting: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    min_seconds: float = 0.0

    @property
    def exclusive(self) -> bool:
        """Whether it affects components that all services share, and so must run alone."""
        return _SERVICE not in self.labels

    def matches(self, alert: Alert) -> bool:
        """Return whether an alert belongs to this case."""
        return self.exclusive or all(alert["labels"].get(k) == v for k, v in self.labels.items())


def kind(alert: Mapping[str, Any]) -> str:
    """Return an alert's `name severity`."""
    return f"{alert['labels']['alertname']} {alert['labels'].get('severity')}"


def _service(name: str) -> dict[str, str]:
    return {_SERVICE: f"drill-{name}"}


_FAILING: Final = _service("failing")
# The service that the objectives apply to.
OBJECTIVES_SERVICE: Final = _FAILING[_SERVICE]

CASES: Final = (
    Case(
        name="failing",
        description="each response of the model fails",
        fault=faults.misconfigured(OBJECTIVES_SERVICE, faults.failing),
        expected=frozenset(
            {
                "ErrorRateHigh warning",
                "ModelServerErrors warning",
                "ErrorLogBurst warning",
                "NewErrorPattern warning",
                "AvailabilityBudgetBurn critical",
            }
        ),
        # After the urgent alert: the error budget of the last hour is still exceeded.
        allowed=frozenset({"AvailabilityBudgetBurn warning"}),
        lasting=frozenset({"AvailabilityBudgetBurn warning"}),
        labels=_FAILING,
    ),
    Case(
        name="stalling",
        description="each response pauses",
        fault=faults.misconfigured("drill-stalling", faults.stalling),
        expected=frozenset({"AnswersStall warning"}),
        # The pause may come before the first token.
        allowed=frozenset({"FirstTokenSlow warning"}),
        labels=_service("stalling"),
    ),
    Case(
        name="costing",
        description="one response costs the budget of a day",
        fault=faults.misconfigured("drill-costing", faults.expensive),
        expected=frozenset({"CostPerHourHigh warning", "DailyBudgetExceeded critical"}),
        inhibited=frozenset({"DailyBudgetSpent warning"}),
        # The budget remains exceeded for the rest of the day.
        lasting=frozenset({"DailyBudgetExceeded critical"}),
        labels=_service("costing"),
    ),
    Case(
        name="flood",
        description="all WebSocket connections of a service are taken",
        fault=faults.flooded("drill-flood"),
        expected=frozenset({"SocketsNearLimit warning"}),
        labels=_service("flood"),
    ),
    Case(
        name="killed",
        description="the service is killed",
        fault=faults.app_killed,
        expected=frozenset({"ServiceDown critical"}),
        labels={_SERVICE: APP},
        # Long enough for ServiceSilent, which takes 40 s and must not be reported.
        min_seconds=50.0,
    ),
    Case(
        name="loki",
        description="Loki is stopped",
        fault=faults.stopped("loki"),
        expected=frozenset({"StoreDown critical"}),
        labels={JOB: "loki"},
    ),
    Case(
        name="collector",
        description="the Collector is stopped",
        fault=faults.stopped("collector"),
        expected=frozenset({"CollectorDown critical"}),
        labels={JOB: "collector"},
        # Long enough for ServiceSilent, which takes 40 s and must not be reported.
        min_seconds=50.0,
    ),
)


def rounds(cases: tuple[Case, ...] = CASES) -> list[list[Case]]:
    """Return the cases that can run together, then each exclusive one."""
    together = [case for case in cases if not case.exclusive]
    return [each for each in (together, *([case] for case in cases if case.exclusive)) if each]
