"""On an overloaded machine a test has more time, but never unlimited time."""

from pathlib import Path

import pytest

from tests.unit.harness import nested

pytestmark = pytest.mark.slow

_TESTS = """
import time

def test_slow():
    time.sleep(0.7)

def test_hangs():
    time.sleep(30)
"""
_OVERLOAD = """
limits.MOST_OVERLOAD = 4.0
limits.overload = lambda: 100.0
"""


def test_time_limit_is_multiplied_by_the_load_within_bounds(tmp_path: Path) -> None:
    files = {"test_nested.py": _TESTS}
    outcome = nested.run(tmp_path, files, "--timeout=0.5", setup=_OVERLOAD)
    assert outcome.passed == {"test_slow"}
    assert "took longer than 2 s" in outcome.failure("test_hangs")
