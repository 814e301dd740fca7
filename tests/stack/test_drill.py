"""The fire drill: each fault is reported by the expected alerts only, and so is its end."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from drill.cases import CASES, OBJECTIVES_SERVICE, Case, rounds
from drill.runs import CaseRun, run
from drill.target import WATCHDOG, Target, target
from tests.builds import wait_for_binaries

# Twice the promised interval.
_LATE_MINUTES = 2


class Drills:
    """The rounds; each is run when one of its cases is first requested."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._runs: dict[str, CaseRun] = {}

    def run(self, case: Case) -> CaseRun:
        if case.name not in self._runs:
            [together] = [each for each in rounds() if case in each]
            self._runs |= {done.case.name: done for done in run(self.target, together)}
        return self._runs[case.name]


@pytest.fixture(scope="module")
def drills(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drills]:
    wait_for_binaries()
    with target(tmp_path_factory.mktemp("drill"), OBJECTIVES_SERVICE) as stack:
        yield Drills(stack)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fault_and_its_end_are_reported_by_expected_alerts_only(drills: Drills, case: Case) -> None:
    assert drills.run(case).problems == []


def test_watchdog_is_sent_repeatedly(drills: Drills) -> None:
    """Each minute; the cases before this test take several."""
    began = datetime.fromisoformat(drills.target.receiver.alerts(WATCHDOG)[0]["startsAt"])
    minutes = (datetime.now(UTC) - began).total_seconds() / 60
    if minutes < _LATE_MINUTES:
        pytest.skip("the stack has not run long enough, without the cases")
    assert len(drills.target.receiver.bodies(WATCHDOG)) >= minutes / _LATE_MINUTES
