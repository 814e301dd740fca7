"""A test whose wait expired has a second try, with its whole time limit; no other failure has."""

import tomllib
from pathlib import Path

import pytest

from stack.facts import ROOT
from tests.unit.harness import nested

pytestmark = pytest.mark.slow

_TESTS = """
import subprocess
import time

import pytest

from stack.waiting import WaitError, poll_until
from tests.elapsed import assert_at_most

tries = []


@pytest.fixture(params=["wait", "process", "promise", "hangs", "value"])
def case(request):
    tries.append(request.param)
    if tries.count(request.param) == 1:
        time.sleep(0.7)
        match request.param:
            case "wait":
                poll_until(lambda: False, "it", within=0.1)
            case "process":
                subprocess.run(["sleep", "9"], timeout=0.1)
            case "promise":
                assert_at_most(1e9, 1.0)
    return request.param


def test_second(case):
    time.sleep(0.7 if case != "value" else 0)
    assert case != "value" or tries.count("value") > 1


def test_twice():
    raise WaitError("waited")
"""


def test_expired_waits_have_a_second_try(tmp_path: Path) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    only = [f"--only-rerun={pattern}" for pattern in settings["only_rerun"]]
    options = ("-ppytest_rerunfailures", "--reruns=1", "--rerun-show-tracebacks", "--timeout=1.2")
    outcome = nested.run(tmp_path, {"test_nested.py": _TESTS}, *options, *only)
    assert "3 failed, 3 passed, 4 rerun" in outcome.output
    for case in ("wait", "process", "promise"):
        assert f"RERUN test_nested.py::test_second[{case}]" in outcome.output
    assert "took longer than 1.2 s" in outcome.failure("test_second[hangs]")
    assert "assert" in outcome.failure("test_second[value]")
    assert "WaitError" in outcome.failure("test_twice")
    assert "waited 0.1 s for it" in outcome.output
