"""Builds the native components that tests need, while other tests run.

With `--build` (`make test`) the components that the cache lacks are built while the tests run.
Without it, tests that need a missing one are skipped.
"""

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
from xdist.workermanage import WorkerController

from stack.facts import ROOT
from stack.machine import MachineError
from stack.native import NativeStack
from stack.parts import BINARIES, missing_binaries
from stack.scaled import kafka
from tests.harness import limits

# Lower priority than the tests that run meanwhile.
COMMAND = ("nice", "-n", "5", sys.executable, "-m", "stack", "build")
_PROGRESS_EVERY_S = 60.0
_POLL_EVERY_S = 0.2
_LOG_LINES = 25


class Build:
    """A build that runs in one process of the test run, visible to all of its processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "build.log"
        self._ended = directory / "ended"

    @property
    def ended(self) -> bool:
        return self._ended.exists()

    def end(self) -> None:
        self._ended.touch()

    def tail(self, lines: int) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


_build: Build | None = None


def expected() -> bool:
    """Return whether components were missing when the run started, and this run builds them."""
    return _build is not None


def wait_for_binaries(names: Collection[str] = ()) -> None:
    """Wait until the named native components are built; without names, all of them.

    Skips the test if one is missing and no build is going to make it. The waiting time does not
    count toward the time limit of the test.
    """
    wait_for_build(names)
    if missing := _missing(names):
        how = "make build" if _build is None else "the build failed, see the summary"
        pytest.skip(f"not built: {', '.join(missing)} ({how})")


def wait_for_build(names: Collection[str] = ()) -> None:
    """Like `wait_for_binaries`, but return as well if the build has failed or none is running."""
    if _build and not _build.ended and _missing(names):
        with limits.paused():
            while not _build.ended and _missing(names):
                time.sleep(_POLL_EVERY_S)


def _missing(names: Collection[str]) -> list[str]:
    if unknown := set(names) - {binary.name for binary in BINARIES}:
        raise ValueError(f"not native components: {', '.join(sorted(unknown))}")
    try:
        return [binary.name for binary in missing_binaries() if not names or binary.name in names]
    except MachineError as lacking:
        pytest.skip(f"the native components cannot be built: {lacking}")


class Builder:
    """Runs the build in the process that distributes the tests."""

    def __init__(self, command: Sequence[str], say: Callable[[str], None]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="chatscope-build-")
        self.build = Build(Path(self._directory.name))
        self._say = say
        with self.build.log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._thread = threading.Thread(target=self._watch, name="build", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            try:
                self._process.wait(_PROGRESS_EVERY_S)
            except subprocess.TimeoutExpired:
                self._say(f"[build] {self.build.tail(1)}")
            else:
                self.build.end()
                return

    def pytest_configure_node(self, node: WorkerController) -> None:
        node.workerinput["build"] = str(self.build.directory)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._process.poll() is None:
            # On an interrupt, the build removes unfinished files.
            self._process.send_signal(signal.SIGINT)
        elif self._process.returncode != 0 and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._thread.join()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._process.returncode != 0:
            terminalreporter.section("the build of the native components failed", red=True)
            terminalreporter.write_line(self.build.tail(_LOG_LINES))

    def pytest_unconfigure(self) -> None:
        self._directory.cleanup()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--build",
        action="store_true",
        help="build missing native components beside the tests that do not need them",
    )


def pytest_configure(config: pytest.Config) -> None:
    global _build  # noqa: PLW0603 - the fixtures that wait have no other way to it
    if directory := getattr(config, "workerinput", {}).get("build"):
        _build = Build(Path(directory))
    elif config.getoption("build") and not hasattr(config, "workerinput") and _buildable():
        builder = Builder(COMMAND, _writer(config))
        config.pluginmanager.register(builder)
        _build = builder.build


def pytest_unconfigure() -> None:
    global _build  # noqa: PLW0603
    _build = None


def _buildable() -> bool:
    try:
        return bool(missing_binaries())
    except MachineError:
        # The build reports the problem, and fails.
        return True


def _writer(config: pytest.Config) -> Callable[[str], None]:
    def say(line: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(line)

    return say


def wait_for_programs_of(stack: NativeStack) -> None:
    """Wait for all programs of a stack; skip the test if Kafka cannot be run here."""
    more = stack.more_programs
    wait_for_binaries([each.name for each in BINARIES if not each.for_tests or each.name in more])
    if more:
        try:
            kafka.fetch()
        except kafka.MissingProgramError as reason:
            pytest.skip(str(reason))
