"""A pytest run inside a test, with the plugins of this suite."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from stack.facts import ROOT

_CONFTEST = """
from tests import builds
from tests.harness import distribution, failures, layers, limits, timing

limits.GRACE_SECONDS = 3.0
limits.MOST_OVERLOAD = 1.0

def pytest_addoption(pluginmanager):
    for plugin in (builds, distribution, failures, layers, limits, timing):
        pluginmanager.register(plugin)
"""
# The other plugins cost a second at the start of each process.
_PLUGINS = ("xdist", "xdist.looponfail", "pytest_timeout", "anyio.pytest_plugin")


class Outcome:
    """What a run printed, and the outcome of each of its tests."""

    def __init__(self, done: "subprocess.CompletedProcess[str]", cases: ET.Element) -> None:
        self.status = done.returncode
        self.output = done.stdout
        self._cases = list(cases.iter("testcase"))

    @property
    def passed(self) -> set[str]:
        return {case.get("name", "") for case in self._cases if not list(case)}

    def failure(self, test: str) -> str:
        """The reports of a failed test: of its call, of its fixtures."""
        phases = [part for case in self._cases if case.get("name") == test for part in case]
        found = [part for part in phases if part.tag in ("failure", "error")]
        assert found, f"{test} did not fail"
        return "\n".join(f"{part.get('message')}\n{part.text}" for part in found)


def run(directory: Path, files: Mapping[str, str], *arguments: str, setup: str = "") -> Outcome:
    """Run the tests in `files`, whose names may have directories, to their end.

    `setup` is executed before pytest is configured.
    """
    (directory / "pytest.ini").write_text("[pytest]\n")
    for name, text in {**files, "conftest.py": _CONFTEST + setup}.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    report = directory / "report.xml"
    plugins = [f"-p{name}" for name in (*_PLUGINS, "no:cacheprovider")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-ra", f"--junitxml={report}", *arguments],
        cwd=directory,
        env={
            **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        errors="replace",
        timeout=180,
        check=False,
    )
    assert "INTERNALERROR" not in done.stdout, done.stdout + done.stderr
    return Outcome(done, ET.parse(report).getroot())  # noqa: S314 - we have just written it
