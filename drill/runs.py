"""Runs of cases: injected together, each watched until its alerts arrived, repaired, and ended."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from drill import messages
from drill.cases import CASES, Case, kind
from drill.faults import Repair
from drill.target import Alert, Target, is_due_to_busy_machine
from stack.waiting import WaitError, poll_until

# Time limit for an alert to arrive or to end.
_LIMIT_SECONDS: Final = 150.0
_POLL_SECONDS: Final = 0.25


@dataclass
class CaseRun:
    """The state and the result of one case.

    `started`, `repaired`: seconds since the epoch; `fired_after`, `resolved_after`: seconds since
    then until all expected alerts had arrived or ended.
    """

    case: Case
    repair: Repair
    started: float = field(default_factory=time.time)
    repaired: float | None = None
    # By Alertmanager's fingerprint: the first firing alert, and the latest one of any status.
    notified: dict[str, Alert] = field(default_factory=dict)
    latest: dict[str, Alert] = field(default_factory=dict)
    fired_after: float | None = None
    resolved_after: float | None = None
    # Alerts that are still expected to arrive or to end.
    pending: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    done: bool = False

    @property
    def since(self) -> float:
        """When the current step started."""
        return self.repaired or self.started

    @property
    def kinds(self) -> set[str]:
        """`name severity` of each alert that arrived."""
        return {kind(alert) for alert in self.notified.values()}

    def update(self, target: Target, alerts: Iterable[Alert]) -> None:
        """Evaluate the alerts of this round, and go to the next step if none is pending."""
        if self.done:
            return
        own = (
            each for each in alerts if self.case.matches(each) and not is_due_to_busy_machine(each)
        )
        for alert in own:
            self.latest[alert["fingerprint"]] = alert
            if alert["status"] == "firing":
                self.notified.setdefault(alert["fingerprint"], alert)
        waited = time.time() - self.since
        if self.repaired is None:
            missing = sorted(self.case.expected - self.kinds)
            if not missing and self.fired_after is None:
                self.fired_after = waited
            self.pending = missing or self._not_inhibited(target)
            if not self.pending and waited >= self.case.min_seconds:
                self.repair()
                self.repaired = time.time()
                self.pending = self._not_ended()
        else:
            self.pending = self._not_ended()
            if not self.pending:
                self.resolved_after = waited
                self.done = True
        if self.pending and waited > _LIMIT_SECONDS:
            step = "arrive" if self.repaired is None else "end"
            self.problems.append(f"did not {step} in {waited:.0f} s: {', '.join(self.pending)}")
            self.done = True

    def check(self, target: Target) -> None:
        """Check the alerts that arrived, once all stopped components run again."""
        accepted = self.case.expected | self.case.allowed
        self.problems += [f"unexpected alert: {each}" for each in sorted(self.kinds - accepted)]
        for fingerprint, alert in self.notified.items():
            self.problems += messages.problems(target, self.case, alert)
            if self.latest[fingerprint]["status"] == "resolved":
                self.problems += messages.resolved_problems(self.latest[fingerprint])

    def _not_ended(self) -> list[str]:
        firing = {kind(each) for each in self.latest.values() if each["status"] == "firing"}
        return sorted((self.case.expected - self.case.lasting) & firing)

    def _not_inhibited(self, target: Target) -> list[str]:
        if not self.case.inhibited:
            return []
        inhibited = {
            kind(alert)
            for alert in target.in_alertmanager("suppressed")
            if alert["status"]["inhibitedBy"] and self.case.matches(alert)
        }
        return [f"{each} (inhibited)" for each in sorted(self.case.inhibited - inhibited)]


def run(
    target: Target, cases: Sequence[Case], show: Callable[[list[CaseRun]], None] = lambda _: None
) -> list[CaseRun]:
    """Inject the faults of all cases, wait for their alerts, and repair each.

    `show` is called after each poll. Returns when no alert of the cases is active. Raises the
    exceptions of faults and repairs.
    """
    since = time.time()
    with ExitStack() as faults:
        runs = []
        for case in cases:
            repair = faults.enter_context(case.fault(target))
            runs.append(CaseRun(case, repair))
        while not all(each.done for each in runs):
            for each in runs:
                each.update(target, _notified(target, since))
            show(runs)
            time.sleep(_POLL_SECONDS)
        for each in (each for each in runs if each.repaired is None):
            each.repair()
        for each in runs:
            each.check(target)
    _check_rest(target, runs, since)
    return runs


def _notified(target: Target, since: float) -> list[Alert]:
    """Return the alerts that started in this round: those of an earlier one may still be active."""
    return [
        alert
        for alert in target.notified()
        if datetime.fromisoformat(alert["startsAt"]).timestamp() >= since
    ]


def _check_rest(target: Target, runs: Sequence[CaseRun], since: float) -> None:
    """Check, after all repairs, for alerts of no case and for alerts that do not end."""
    lasting = {each for case in CASES for each in case.lasting}
    problems: list[str] = []

    def left() -> set[str]:
        active = {
            kind(alert)
            for alert in target.in_alertmanager("active")
            if not is_due_to_busy_machine(alert)
        }
        return active - lasting - {"Watchdog none"}

    try:
        poll_until(lambda: not left(), "all alerts to end", _LIMIT_SECONDS, 0.5)
    except WaitError:
        problems.append(f"does not end: {', '.join(sorted(left()))}")
    unrelated = {
        f"{kind(alert)} {alert['labels']}"
        for alert in _notified(target, since)
        if not any(each.case.matches(alert) for each in runs) and not is_due_to_busy_machine(alert)
    }
    problems += [f"unexpected alert, of no case: {each}" for each in sorted(unrelated)]
    problems += messages.watchdog_problems(target)
    for each in runs:
        each.problems += problems
