"""A test that crashes its worker, or whose failure cannot be rendered, fails alone."""

import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

from tests.harness.layers import layer_of


class Scheduling(LoadGroupScheduling):
    """Groups as with `--dist loadgroup`, with two differences.

    A test that crashed its worker is not run again. A worker does not get a second slow group
    while it still has one: it would wait there although another worker is free.
    """

    def remove_node(self, node: WorkerController) -> str | None:
        for unit in self.assigned_work[node].values():
            for nodeid, completed in unit.items():
                if not completed:
                    unit[nodeid] = True
                    super().remove_node(node)
                    return nodeid
        return super().remove_node(node)

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
    """What the process that distributes the tests does."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="chatscope-tests-")

    def _stacks(self, node: WorkerController) -> Path:
        return Path(self._directory.name) / f"{node.gateway.id}.stacks"

    def pytest_configure_node(self, node: WorkerController) -> None:
        node.workerinput["stacks"] = str(self._stacks(node))

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Scheduling | None:
        return Scheduling(config, log) if config.getoption("dist") == "loadgroup" else None

    def pytest_handlecrashitem(self, report: pytest.TestReport) -> None:
        """Show the stacks of a worker that the time limit ended."""
        if text := self._stacks(report.node).read_text():  # type: ignore[attr-defined]
            report.longrepr = f"{report.longrepr}\n\n{text}"

    def pytest_unconfigure(self) -> None:
        self._directory.cleanup()


class Worker:
    """What each process that runs tests does."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        # The controller hears a person's Ctrl-C too; one that a test causes is its failure.
        try:
            return (yield)
        except KeyboardInterrupt as error:
            raise RuntimeError("the test was interrupted (SIGINT)") from error

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self) -> Iterator[None]:
        return encodable((yield))


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")
    config.pluginmanager.register(Worker() if is_worker else Controller())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """Fall back to Python's own traceback where pytest cannot render one.

    After a deep recursion CPython 3.11 may raise `SystemError: AST constructor recursion depth
    mismatch` when pytest parses the source, which would end the run as an internal error.
    """
    try:
        return (yield)
    except Exception as error:
        assert call.excinfo is not None
        text = "".join(traceback.format_exception(call.excinfo.value, limit=-50))
        reason = f"(pytest could not render this traceback: {error!r})"
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords=dict.fromkeys(item.keywords, 1),
            outcome="failed",
            longrepr=f"{text}\n{reason}",
            when=call.when,
            duration=call.duration,
            start=call.start,
            stop=call.stop,
        )


def encodable(value: Any) -> Any:
    """The value with each text written so that UTF-8 can hold it: lone surrogates escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(encodable, value))
    return value
