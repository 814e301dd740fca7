"""How cases go: broken together, each watched until its alerts came, mended, and ended."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from drill import messages
from drill.cases import CASES, Case, kind
from drill.ground import Alert, Ground, is_of_a_busy_machine
from drill.troubles import Mend
from stack.waiting import WaitError, poll_until

# What takes longer did not come.
_PATIENCE_SECONDS: Final = 150.0
_LOOK_EVERY_SECONDS: Final = 0.25


@dataclass
class Course:
    """One case while it goes, and in the end.

    `began`, `mended`: when; `fired_after`, `resolved_after`: seconds since then.
    """

    case: Case
    mend: Mend
    began: float = field(default_factory=time.time)
    mended: float | None = None
    # By what Alertmanager calls the same alert, which is the same labels.
    told: dict[str, Alert] = field(default_factory=dict)
    latest: dict[str, Alert] = field(default_factory=dict)
    fired_after: float | None = None
    resolved_after: float | None = None
    # What must still come, while it is waited for.
    awaited: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    over: bool = False

    @property
    def since(self) -> float:
        """When the step that it is in began."""
        return self.mended or self.began

    @property
    def kinds(self) -> set[str]:
        """Of the alerts that were told."""
        return {kind(alert) for alert in self.told.values()}

    def look(self, ground: Ground, alerts: Iterable[Alert]) -> None:
        """One step on, if what was waited for has come; `alerts` are those told in its round."""
        if self.over:
            return
        own = (each for each in alerts if self.case.owns(each) and not is_of_a_busy_machine(each))
        for alert in own:
            self.latest[alert["fingerprint"]] = alert
            if alert["status"] == "firing":
                self.told.setdefault(alert["fingerprint"], alert)
        waited = time.time() - self.since
        if self.mended is None:
            missing = sorted(self.case.told - self.kinds)
            if not missing and self.fired_after is None:
                self.fired_after = waited
            self.awaited = missing or self._not_held_back(ground)
            if not self.awaited and waited >= self.case.stays:
                self.mend()
                self.mended = time.time()
                self.awaited = self._not_ended()
        else:
            self.awaited = self._not_ended()
            if not self.awaited:
                self.resolved_after = waited
                self.over = True
        if self.awaited and waited > _PATIENCE_SECONDS:
            step = "come" if self.mended is None else "end"
            self.faults.append(f"did not {step} in {waited:.0f} s: {', '.join(self.awaited)}")
            self.over = True

    def judge(self, ground: Ground) -> None:
        """Looks for faults, when all that it stopped runs again."""
        right = self.case.told | self.case.also
        self.faults += [f"came, and is wrong: {each}" for each in sorted(self.kinds - right)]
        for same, alert in self.told.items():
            self.faults += messages.faults(ground, self.case, alert)
            if self.latest[same]["status"] == "resolved":
                self.faults += messages.of_its_end(self.latest[same])

    def _not_ended(self) -> list[str]:
        go_on = {kind(each) for each in self.latest.values() if each["status"] == "firing"}
        return sorted((self.case.told - self.case.lasting) & go_on)

    def _not_held_back(self, ground: Ground) -> list[str]:
        if not self.case.inhibited:
            return []
        held = {
            kind(alert)
            for alert in ground.in_alertmanager("suppressed")
            if alert["status"]["inhibitedBy"] and self.case.owns(alert)
        }
        return [f"{each} (held back)" for each in sorted(self.case.inhibited - held)]


def run(
    ground: Ground, cases: Sequence[Case], show: Callable[[list[Course]], None] = lambda _: None
) -> list[Course]:
    """Breaks all of them, waits, mends each; `show` hears each time that was looked.

    Returns when nothing is left of them. Raises what breaking and mending raise.
    """
    since = time.time()
    with ExitStack() as until_the_end:
        courses = []
        for case in cases:
            mend = until_the_end.enter_context(case.trouble(ground))
            courses.append(Course(case, mend))
        while not all(course.over for course in courses):
            for course in courses:
                course.look(ground, _told(ground, since))
            show(courses)
            time.sleep(_LOOK_EVERY_SECONDS)
        for course in (each for each in courses if each.mended is None):
            course.mend()
        for course in courses:
            course.judge(ground)
    _judge_the_rest(ground, courses, since)
    return courses


def _told(ground: Ground, since: float) -> list[Alert]:
    """Those that began in this round: what an earlier one left may go on."""
    return [
        alert
        for alert in ground.told()
        if datetime.fromisoformat(alert["startsAt"]).timestamp() >= since
    ]


def _judge_the_rest(ground: Ground, courses: list[Course], since: float) -> None:
    """When all that is mended is told: what came that is nobody's, and what does not end."""
    lasting = {each for case in CASES for each in case.lasting}
    faults: list[str] = []

    def left() -> set[str]:
        active = {
            kind(alert)
            for alert in ground.in_alertmanager("active")
            if not is_of_a_busy_machine(alert)
        }
        return active - lasting - {"Watchdog none"}

    try:
        poll_until(lambda: not left(), "all alerts to end", _PATIENCE_SECONDS, 0.5)
    except WaitError:
        faults.append(f"does not end: {', '.join(sorted(left()))}")
    strange = {
        f"{kind(alert)} {alert['labels']}"
        for alert in _told(ground, since)
        if not any(course.case.owns(alert) for course in courses)
        and not is_of_a_busy_machine(alert)
    }
    faults += [f"came, and is of no trouble here: {each}" for each in sorted(strange)]
    faults += messages.of_watchdog(ground)
    for course in courses:
        course.faults += faults
