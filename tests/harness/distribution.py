"""Distribution of tests to worker processes, and handling of crashed workers.

Needed because of two problems of pytest-xdist 3.8.0: with pytest 9.2 it ignores the mark
`xdist_group`, and it runs a test that ends its worker again until no worker is left.
"""

import itertools
import json
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.harness.layers import layer_of

_GROUPS = "groups.json"


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Runs the tests of a group on one worker, in order; other tests on any free worker.

    A worker gets its next test before it ends one. So it never gets a second slow group while
    another test is left: that group would wait behind the first although another worker is free.
    """

    def __init__(self, config: pytest.Config, log: Any, groups: Path) -> None:
        super().__init__(config, log)
        self._file = groups
        # Groups start in the order of their first tests, not the largest first.
        config.option.loadscopereorder = False

    @cached_property
    def _groups(self) -> dict[str, str]:
        groups: dict[str, str] = json.loads(self._file.read_text())
        return groups

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        units = self.assigned_work[node]
        pending = [test for unit in units.values() for test, done in unit.items() if not done]
        crashed = pending[0] if pending else None
        for scope, unit in list(units.items()):
            if crashed in unit:
                unit[crashed] = True
            # A worker that is assigned a unit without a test to run waits forever.
            if all(unit.values()):
                del units[scope]
        super().remove_node(node)
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        # A replacement that still collects is scheduled after its collection.
        if node in self.registered_collections:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        assigned = self.assigned_work.get(node, {})
        if any(_slow(unit) and not all(unit.values()) for unit in assigned.values()):
            fast = (scope for scope, unit in self.workqueue.items() if not _slow(unit))
            if scope := next(fast, None):
                self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)


def _slow(unit: dict[str, bool]) -> bool:
    return layer_of(next(iter(unit))).slow


class Controller:
    """Hooks of the process that distributes the tests."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="chatscope-tests-")
        self._directory = Path(self._temporary.name)

    def _stacks(self, node: WorkerController) -> Path:
        return self._directory / f"{node.gateway.id}.stacks"

    def pytest_configure_node(self, node: WorkerController) -> None:
        node.workerinput["directory"] = str(self._directory)
        node.workerinput["stacks"] = str(self._stacks(node))

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Scheduling | None:
        if config.getoption("dist") != "loadgroup":
            return None
        return Scheduling(config, log, self._directory / _GROUPS)

    def pytest_handlecrashitem(self, report: pytest.TestReport) -> None:
        """Show the stacks of a worker that the time limit ended."""
        stacks = self._stacks(report.node)
        if stacks.exists() and (text := stacks.read_text(errors="replace")):
            report.longrepr = f"{report.longrepr}\n\n{text}"

    def pytest_unconfigure(self) -> None:
        self._temporary.cleanup()


class Worker:
    """Hooks of each process that runs tests."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Send the groups to the controller; each worker finds the same ones."""
        groups = {item.nodeid: group for item in items if (group := _group(item))}
        written = self._directory / f"{self._name}-{_GROUPS}"
        written.write_text(json.dumps(groups))
        written.rename(self._directory / _GROUPS)


def _group(item: pytest.Item) -> str:
    """Return the group of the mark, or the module if it shares a fixture, to create that once."""
    if mark := item.get_closest_marker("xdist_group"):
        return str(mark.args[0])
    module = item.nodeid.partition("::")[0]
    fixtures = item._fixtureinfo.name2fixturedefs.values() if hasattr(item, "_fixtureinfo") else ()
    shared = any(
        fixture.scope == "module" and fixture.baseid == module
        for fixture in itertools.chain.from_iterable(fixtures)
    )
    return module if shared else ""


def pytest_configure(config: pytest.Config) -> None:
    if worker := getattr(config, "workerinput", None):
        plugin: object = Worker(Path(worker["directory"]), worker["workerid"])
    else:
        plugin = Controller()
    config.pluginmanager.register(plugin)
