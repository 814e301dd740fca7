"""The fire drill: each trouble is told by the right alerts, and by no other, and so is its end."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from drill.cases import CASES, PROMISED, Case, rounds
from drill.course import Course, run
from drill.ground import WATCHDOG, Ground, ground
from tests.builds import wait_for_binaries

# Twice as long as is promised.
_LATE_MINUTES = 2


class Drills:
    """The rounds, each run when one of its cases is first asked for."""

    def __init__(self, place: Ground) -> None:
        self.place = place
        self._courses: dict[str, Course] = {}

    def course(self, case: Case) -> Course:
        if case.name not in self._courses:
            [together] = [each for each in rounds() if case in each]
            self._courses |= {done.case.name: done for done in run(self.place, together)}
        return self._courses[case.name]


@pytest.fixture(scope="module")
def drills(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drills]:
    wait_for_binaries()
    with ground(tmp_path_factory.mktemp("drill"), about=PROMISED) as place:
        yield Drills(place)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_trouble_and_its_end_are_told_by_the_right_alerts_only(drills: Drills, case: Case) -> None:
    assert drills.course(case).faults == []


def test_watchdog_is_told_again_and_again(drills: Drills) -> None:
    """Each minute: the cases before it take several."""
    began = datetime.fromisoformat(drills.place.people.alerts(WATCHDOG)[0]["startsAt"])
    minutes = (datetime.now(UTC) - began).total_seconds() / 60
    if minutes < _LATE_MINUTES:
        pytest.skip("it runs for too short a time, without the cases")
    assert len(drills.place.people.came(WATCHDOG)) >= minutes / _LATE_MINUTES
