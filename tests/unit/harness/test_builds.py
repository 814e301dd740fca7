"""Native components are built while tests run; only those that need one wait for it."""

import sys
from pathlib import Path

import pytest

from tests.unit.harness import nested

pytestmark = pytest.mark.slow

_TESTS = """
import pathlib
import pytest
from tests import builds

@pytest.fixture
def binary():
    builds.wait_for_binaries(["loki"])

def test_needs_loki(binary):
    assert pathlib.Path("loki").exists()

def test_needs_nothing():
    pathlib.Path("ran").touch()
"""
# Ends only after the other test has run.
_WAIT = """
import os, pathlib, sys, time
while not os.path.exists("ran"):
    time.sleep(0.05)
"""
# A cache that lacks only Loki, and a fake build for it.
_SETUP = """
import os
builds.missing_binaries = lambda: [b for b in builds.BINARIES if b.name == "loki"
                                   and not os.path.exists("loki")]
builds.ROOT = os.getcwd()
builds.COMMAND = ({python!r}, "-c", {build!r})
"""


def _run(directory: Path, build: str, *options: str) -> nested.Outcome:
    setup = _SETUP.format(python=sys.executable, build=_WAIT + build)
    files = {"tests/unit/test_nested.py": _TESTS}
    return nested.run(directory, files, "--timeout=1", *options, setup=setup)


def test_waiting_for_a_build_is_not_counted_as_time_of_the_test(tmp_path: Path) -> None:
    outcome = _run(tmp_path, "time.sleep(1.5); pathlib.Path('loki').touch()", "--build")
    assert outcome.passed == {"test_needs_loki", "test_needs_nothing"}
    assert outcome.status == pytest.ExitCode.OK


def test_failed_build_is_shown_once_and_fails_the_run(tmp_path: Path) -> None:
    build = "sys.exit('loki: no space left on device')"
    outcome = _run(tmp_path, build, "--build", "-n2", "--dist=loadgroup")
    assert outcome.passed == {"test_needs_nothing"}
    assert "not built: loki (the build failed, see the summary)" in outcome.output
    assert outcome.output.count("no space left on device") == 1
    assert "1 passed, 1 skipped" in outcome.output
    assert outcome.status == pytest.ExitCode.TESTS_FAILED


def test_without_a_build_the_test_is_skipped_with_the_mend(tmp_path: Path) -> None:
    outcome = _run(tmp_path, "", "-k", "needs_loki")
    assert "not built: loki (make build)" in outcome.output
    assert outcome.status == pytest.ExitCode.OK
