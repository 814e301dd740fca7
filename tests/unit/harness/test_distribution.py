"""Groups stay together on one worker, and slow groups start on different workers."""

from pathlib import Path

import pytest

from tests.unit.harness import nested

pytestmark = pytest.mark.slow

_NOTE = """
import os, time
import pytest

def note(name, seconds=0.05):
    with open("order", "a") as file:
        file.write(f"{name} {os.environ['PYTEST_XDIST_WORKER']}\\n")
    time.sleep(seconds)
"""
_FAST = """
@pytest.mark.parametrize("number", range(30))
def test_fast(number):
    note("fast")
"""
_SHARED = """
@pytest.fixture(scope="module")
def shared():
    pass

@pytest.mark.parametrize("number", range(6))
def test_shared(shared, number):
    note("shared")
"""
_GROUPED = """
@pytest.mark.xdist_group("{group}")
@pytest.mark.parametrize("number", range(2))
def test_{group}(number):
    note("{group}", {seconds})
"""


def test_groups_stay_together_and_slow_ones_start_first_where_no_other_runs(
    tmp_path: Path,
) -> None:
    slow = {"long": 1.0, "two": 0.05, "three": 0.05, "last": 0.05}
    groups = "".join(_GROUPED.format(group=name, seconds=slow[name]) for name in slow)
    files = {
        "tests/stack/test_slow.py": _NOTE + groups,
        "tests/config/test_fast.py": _NOTE + _FAST,
        "tests/unit/test_group.py": _NOTE + _SHARED,
    }
    outcome = nested.run(tmp_path, files, "-n3", "--dist=loadgroup")
    assert "44 passed" in outcome.output
    ran = [line.split() for line in (tmp_path / "order").read_text().splitlines()]
    workers = {name: {worker for each, worker in ran if each == name} for name, _ in ran}
    assert {name for name, by in workers.items() if len(by) == 1} == {*slow, "shared"}
    firsts = {worker: name for name, worker in reversed(ran)}
    assert sorted(firsts.values()) == ["long", "three", "two"]
    assert workers["last"] != workers["long"]
