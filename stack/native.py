"""The stack as native processes under process-compose: start, readiness, stop."""

import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType

import httpx2
import psutil

from stack import grafana, supervisor
from stack.facts import ROOT, own_environment
from stack.local_http import local_client
from stack.parts import BINARIES, PARTS, Part, binary_path
from stack.supervisor import ProcessState
from stack.waiting import poll_until

READY_TIMEOUT_S = 60.0
# More than the shutdown time-outs in process-compose.yaml, one after another.
STOP_TIMEOUT_S = 50.0
TAIL_LINES = 15
_START_LINE = "==== started "
# Who scrapes themselves into Prometheus: the job, and the fact with the port.
_SCRAPED = {
    "collector": "COLLECTOR_METRICS_PORT",
    "prometheus": "PROMETHEUS_PORT",
    "loki": "LOKI_PORT",
    "tempo": "TEMPO_PORT",
    "alertmanager": "ALERTMANAGER_PORT",
}


class PartDiedError(RuntimeError):
    """A part ended while we waited for it; the text has the end of its log."""


class NativeStack:
    """One stack, known by its STATE_DIR. As a context manager: ready inside, gone after."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self.facts = dict(facts)
        # What does not run here, and how to get it.
        self.missing = {} if facts.get("GRAFANA_HOME") else {"grafana": grafana.MISSING}
        self.parts = tuple(part for part in PARTS if part.name not in self.missing)
        self.state_dir = Path(facts["STATE_DIR"])
        self.log_dir = self.state_dir / "logs"
        self.run_dir = self.state_dir / "run"
        self._restarts_before: dict[str, int] | None = None

    def start(self) -> None:
        """Starts all parts, which must be built, and returns at once. Raises SupervisorError.

        What an earlier stack of this STATE_DIR left running is stopped first.
        """
        self.stop()
        self.prepare()
        self._restarts_before = {}
        (self.run_dir / "facts.json").write_text(json.dumps(self.facts, indent=1))
        log = self.log_dir / "process-compose.log"
        supervisor.launch(
            binary_path("process-compose"), str(self.state_dir), self.environment(), log
        )

    def prepare(self) -> None:
        """Makes the directories and files that the parts expect."""
        for directory in (self.log_dir, self.run_dir, Path(self.facts["DATA_DIR"])):
            directory.mkdir(parents=True, exist_ok=True)
        self._mark_logs()
        self._render_prometheus()

    def environment(self) -> dict[str, str]:
        """What process-compose.yaml and the parts' configurations find in their environment."""
        programs = {
            f"{binary.name.upper().replace('-', '_')}_BIN": str(binary_path(binary.name))
            for binary in BINARIES
        }
        places = {
            "REPO_DIR": str(ROOT),
            "LOG_DIR": str(self.log_dir),
            "RUN_DIR": str(self.run_dir),
            "PYTHON_BIN": sys.executable,
        }
        own = own_environment()
        return {**own, **self.facts, **programs, **places, **grafana.environment(self.facts, own)}

    def wait_ready(
        self, timeout: float = READY_TIMEOUT_S, on_ready: Callable[[Part], None] | None = None
    ) -> None:
        """Returns when every part says it is ready; `on_ready` hears of each of them.

        Raises PartDiedError when one ends meanwhile, WaitError after `timeout` seconds.
        """
        waiting = list(self.parts)
        if self._restarts_before is None:
            # Somebody else started it; what happened before is not our concern.
            states = self.states().values()
            self._restarts_before = {state.name: state.restarts for state in states}

        def all_ready() -> bool:
            self._raise_if_dead()
            for part in [part for part in waiting if self.is_ready(part)]:
                waiting.remove(part)
                if on_ready:
                    on_ready(part)
            if waiting:
                raise RuntimeError(f"not ready: {', '.join(part.name for part in waiting)}")
            return True

        poll_until(all_ready, "all parts to be ready", timeout, giving_up_on=(PartDiedError,))

    def is_ready(self, part: Part) -> bool:
        """Whether the part's own readiness URL answers with success now."""
        with local_client(timeout=2.0) as client:
            try:
                return client.get(part.readiness(self.facts)).is_success
            except httpx2.TransportError:
                return False

    def running(self) -> bool:
        """Whether process-compose of this stack lives; its parts may still be starting."""
        own = supervisor.own_processes(str(self.state_dir))
        return any(supervisor.is_supervisor(process) for process in own)

    def states(self) -> dict[str, ProcessState]:
        """What process-compose knows of each part; nothing when it is not running."""
        try:
            return supervisor.states(str(self.state_dir))
        except httpx2.TransportError:
            return {}

    def stop(self, timeout: float = STOP_TIMEOUT_S) -> bool:
        """Stops what this stack started, in order; False when nothing was running."""
        own = supervisor.own_processes(str(self.state_dir))
        for process in filter(supervisor.is_supervisor, own):
            _signal(process.terminate)
        if any(map(supervisor.is_supervisor, own)):
            psutil.wait_procs(own, timeout=timeout)
        _end(supervisor.own_processes(str(self.state_dir)))
        supervisor.control_socket(str(self.state_dir)).unlink(missing_ok=True)
        (self.run_dir / "facts.json").unlink(missing_ok=True)
        return bool(own)

    def log_tail(self, name: str, lines: int = TAIL_LINES) -> str:
        """The last lines that a part wrote since the stack was started, oldest first."""
        try:
            text = (self.log_dir / f"{name}.log").read_text(errors="replace")
        except FileNotFoundError:
            text = ""
        written = text.rpartition(_START_LINE)[2].splitlines()[1:]
        return "\n".join(written[-lines:]) or "(it wrote nothing)"

    def __enter__(self) -> "NativeStack":
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _raise_if_dead(self) -> None:
        before = self._restarts_before or {}
        for state in self.states().values():
            if state.ended(before.get(state.name, 0)):
                raise PartDiedError(
                    f"{state.name} ended with exit code {state.exit_code}; the end of"
                    f" {self.log_dir / state.name}.log:\n{self.log_tail(state.name)}"
                )

    def _mark_logs(self) -> None:
        # The logs of earlier runs stay, and must not be mistaken for this one's.
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        for part in self.parts:
            with (self.log_dir / f"{part.name}.log").open("a") as log:
                log.write(f"{_START_LINE}{now}\n")

    def _render_prometheus(self) -> None:
        """A directory for Prometheus, which reads its scrape targets beside its configuration."""
        directory = self.run_dir / "prometheus"
        targets = directory / "targets"
        targets.mkdir(parents=True, exist_ok=True)
        for name in ("prometheus.yml", "rules"):
            link = directory / name
            link.unlink(missing_ok=True)
            link.symlink_to(ROOT / "prometheus" / name)
        host = self.facts["STACK_HOST"]
        groups = [
            {"targets": [f"{host}:{self.facts[port]}"], "labels": {"job": job}}
            for job, port in _SCRAPED.items()
        ]
        (targets / "stack.json").write_text(json.dumps(groups, indent=1))


def recorded_facts(facts: Mapping[str, str]) -> dict[str, str]:
    """The facts that the running stack was started with, else those given."""
    try:
        text = (Path(facts["STATE_DIR"]) / "run" / "facts.json").read_text()
    except FileNotFoundError:
        return dict(facts)
    recorded: dict[str, str] = json.loads(text)
    return recorded


def _end(processes: list[psutil.Process]) -> None:
    """Ends leftovers: orphans of a process-compose that was killed, or what did not stop."""
    for process in processes:
        _signal(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=5.0)
    for process in alive:
        _signal(process.kill)
    psutil.wait_procs(alive, timeout=5.0)


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
