"""A pytest run inside a test, with the plugins of this suite."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from stack.facts import ROOT

_CONFTEST = """
from tests.harness import limits
from tests.conftest import pytest_addoption
limits.GRACE_SECONDS = 1.0
"""


class Outcome:
    """What a run printed, and the outcome of each of its tests."""

    def __init__(self, done: "subprocess.CompletedProcess[str]", cases: ET.Element) -> None:
        self.status = done.returncode
        self.output = done.stdout + done.stderr
        self._cases = {case.get("name"): case for case in cases.iter("testcase")}

    def __len__(self) -> int:
        return len(self._cases)

    @property
    def passed(self) -> set[str | None]:
        return {name for name, case in self._cases.items() if not list(case)}

    def failure(self, test: str) -> str:
        """The report of a failed test, of all of its phases."""
        found = [part for part in self._cases[test] if part.tag in ("failure", "error")]
        assert found, f"{test} did not fail"
        return "\n".join(f"{part.get('message')}\n{part.text}" for part in found)


def run(
    directory: Path, source: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> Outcome:
    """Run the tests in `source` to their end."""
    (directory / "conftest.py").write_text(_CONFTEST)
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "test_nested.py").write_text(source)
    report = directory / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra"]
    done = subprocess.run(
        [*command, f"--junitxml={report}", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=50,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    return Outcome(done, ET.parse(report).getroot())  # noqa: S314 - we have just written it
