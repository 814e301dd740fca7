"""Groups stay together on one worker, and slow groups start on different workers."""

from pathlib import Path

from tests.unit.harness import nested

_NOTE = """
import os, time
import pytest

def note(name):
    with open("order", "a") as file:
        file.write(f"{name} {os.environ['PYTEST_XDIST_WORKER']}\\n")
    time.sleep(0.05)
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
def test_four(shared, number):
    note("four")
"""
_GROUPED = """
@pytest.mark.xdist_group("{group}")
@pytest.mark.parametrize("number", range({size}))
def test_{group}(number):
    note("{group}")
"""


def test_groups_stay_together_and_slow_ones_start_first_on_different_workers(
    tmp_path: Path,
) -> None:
    slow = "".join(_GROUPED.format(group=group, size=2) for group in ("one", "two", "three"))
    files = {
        "tests/stack/test_slow.py": _NOTE + slow,
        "tests/config/test_fast.py": _NOTE + _FAST,
        "tests/unit/test_group.py": _NOTE + _SHARED,
    }
    outcome = nested.run(tmp_path, files, "-n3", "--dist=loadgroup")
    assert "42 passed" in outcome.output
    ran = [line.split() for line in (tmp_path / "order").read_text().splitlines()]
    workers = {name: {worker for each, worker in ran if each == name} for name, _ in ran}
    groups = [workers[name] for name in ("one", "two", "three", "four")]
    assert all(len(workers) == 1 for workers in groups)
    assert len(set.union(*groups[:3])) == 3
    assert len(workers["fast"]) == 3
    assert {name for name, _ in ran[:3]} == {"one", "two", "three"}
