"""With `--cov`: measure the processes that fast tests start too, and print a short report."""

import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

from stack.facts import ROOT
from tests.harness.layers import layer_of

LEAST = 10
_SETTINGS = ROOT / "pyproject.toml"


class Total:
    """The lines and branches of some files, and the number of executed ones."""

    def __init__(self) -> None:
        self._all = self._executed = 0

    def add(self, summary: Mapping[str, int]) -> None:
        self._all += summary["num_statements"] + summary["num_branches"]
        self._executed += summary["covered_lines"] + summary["covered_branches"]

    @property
    def percent(self) -> float:
        return 100 * self._executed / self._all if self._all else 100.0

    def __str__(self) -> str:
        return f"{self.percent:5.1f} %"


class Processes:
    """Enables coverage in each Python process that a test of the fast layers starts.

    Not in those of the slow layers: it makes Python slower, and these tests measure time.
    """

    def __init__(self) -> None:
        settings = Coverage(config_file=str(_SETTINGS))
        # Relative in pyproject.toml, but processes have other working directories.
        data = ROOT / str(settings.get_option("run:data_file"))
        packages = settings.get_option("run:source_pkgs")
        data.parent.mkdir(parents=True, exist_ok=True)
        self._file = data.with_name(f"processes-{os.getpid()}.toml")
        self._file.write_text(
            "[tool.coverage.run]\nbranch = true\nparallel = true\n"
            f"source_pkgs = {json.dumps(packages)}\ndata_file = {json.dumps(str(data))}\n"
        )
        self._variable = {"COVERAGE_PROCESS_START": str(self._file)}

    def pytest_sessionfinish(self) -> None:
        self._file.unlink()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        with pytest.MonkeyPatch.context() as patch:
            if not layer_of(item.nodeid).slow:
                self._measure(patch)
            return (yield)

    def _measure(self, patch: pytest.MonkeyPatch) -> None:
        start: Any = subprocess.Popen.__init__

        def start_measured(
            process: Any, *arguments: Any, env: Mapping[str, str] | None = None, **options: Any
        ) -> None:
            # Tests that set a process's whole environment do not know of coverage.
            env = None if env is None else {**env, **self._variable}
            start(process, *arguments, env=env, **options)

        patch.setattr(subprocess.Popen, "__init__", start_measured)
        for name, value in self._variable.items():
            patch.setenv(name, value)


class Report:
    """The total of each package, and the modules with the lowest coverage."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        measured = Coverage(config_file=str(_SETTINGS))
        measured.load()
        data = Path(measured.get_data().base_filename())
        output = data.with_suffix(".json")
        measured.json_report(outfile=str(output))
        modules: dict[str, Total] = defaultdict(Total)
        packages: dict[str, Total] = defaultdict(Total)
        for name, file in json.loads(output.read_text())["files"].items():
            modules[name].add(file["summary"])
            packages[str(Path(name).parent)].add(file["summary"])
        terminalreporter.section("coverage of lines and branches")
        for package, total in sorted(packages.items()):
            terminalreporter.write_line(f"{total}  {package}")
        terminalreporter.section(f"{LEAST} modules with the least coverage")
        for module, total in sorted(modules.items(), key=lambda pair: pair[1].percent)[:LEAST]:
            terminalreporter.write_line(f"{total}  {module}")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("cov_source", None):
        return
    is_worker = hasattr(config, "workerinput")
    if is_worker or not config.getoption("numprocesses", None):
        config.pluginmanager.register(Processes())
    if not is_worker:
        config.pluginmanager.register(Report())
