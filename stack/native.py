"""The stack as native processes under process-compose: start, readiness, stop."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import httpx2
import psutil

from stack import grafana, logs, own, secrets, supervisor
from stack.base import TAIL_LINES, Stack
from stack.facts import ROOT, app_stop_seconds, own_environment
from stack.parts import BINARIES, PARTS, Part, program_path
from stack.recorded import forget, record
from stack.supervisor import ProcessState
from stack.terminal import Terminal

_START_LINE = "==== started "
# Programs differ in the spelling that they read.
_NO_PROXY = ("NO_PROXY", "no_proxy")


class NativeStack(Stack):
    """All components as processes of this machine."""

    kind = "natively"
    # More than the sum of the shutdown timeouts in process-compose.yaml except the app's.
    stop_timeout_s = 40.0
    # Programs beyond those of one machine.
    more_programs: tuple[str, ...] = ()
    scraped: Mapping[str, str] = {
        # The job, and the fact with the port.
        "collector": "COLLECTOR_METRICS_PORT",
        "prometheus": "PROMETHEUS_PORT",
        "loki": "LOKI_PORT",
        "tempo": "TEMPO_PORT",
        "alertmanager": "ALERTMANAGER_PORT",
    }

    def __init__(self, facts: Mapping[str, str]) -> None:
        super().__init__(facts)
        self.state_dir = Path(facts["STATE_DIR"])
        self.log_dir = self.state_dir / "logs"
        self.run_dir = self.state_dir / "run"

    @property
    def parts(self) -> tuple[Part, ...]:
        """All components; Grafana only if it exists."""
        return tuple(part for part in (*PARTS, *self.more_parts) if part.name not in self.missing)

    @property
    def missing(self) -> dict[str, str]:
        """Grafana, unless GRAFANA_HOME is set."""
        return {} if self.facts.get("GRAFANA_HOME") else {"grafana": grafana.MISSING}

    def start(self) -> None:
        """Start all components, which must be built, without waiting. Raises SupervisorError.

        Stops remaining processes of an earlier stack of this STATE_DIR first.
        """
        self.stop()
        self.prepare()
        self.make_secrets()
        self._restarts_before = {}
        record(self.facts)
        log = self.log_dir / "process-compose.log"
        program = program_path("process-compose", self.facts)
        environ, configuration = self.environment(), self.configuration()
        supervisor.launch(program, str(self.state_dir), environ, log, configuration)

    def make_secrets(self) -> None:
        """Create missing secrets. Raises SecretsError."""
        secrets.make(self.facts)

    def prepare(self) -> None:
        """Create the directories and files that the components expect."""
        # Grafana logs an error if its folder for plugins does not exist, even though it stays
        # empty.
        plugins = Path(self.facts["DATA_DIR"]) / "grafana" / "plugins"
        # Stored data, logs and secrets are accessible to their owner only.
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.state_dir.chmod(0o700)
        for directory in (self.log_dir, self.run_dir, plugins):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        supervisor.make_private(Path(self.facts["SOCKETS_DIR"]))
        own.write(self.run_dir / "own", own_environment())
        self._mark_logs()
        self._render_prometheus()

    def configuration(self) -> Path:
        """Return the configuration of process-compose."""
        return supervisor.CONFIGURATION

    def environment(self) -> dict[str, str]:
        """Return the environment of process-compose.yaml and of the components' configurations."""
        programs = {
            f"{binary.name.upper().replace('-', '_')}_BIN": str(
                program_path(binary.name, self.facts)
            )
            for binary in BINARIES
            if not binary.for_tests or binary.name in self.more_programs
        }
        places = {
            "REPO_DIR": str(ROOT),
            "LOG_DIR": str(self.log_dir),
            "RUN_DIR": str(self.run_dir),
            "PYTHON_BIN": sys.executable,
            "APP_STOP_SECONDS": str(app_stop_seconds()),
        }
        switches = {"GRAFANA_OFF": "false" if self.facts["GRAFANA_HOME"] else "true"}
        said = own_environment()
        return {
            **own.shared(said),
            **self.facts,
            **programs,
            **places,
            **switches,
            "APP_GRAFANA_URL": self._linked_grafana(said),
            **_direct(self.facts, said),
        }

    def _linked_grafana(self, said: Mapping[str, str]) -> str:
        """Return the target of the chat page's links: the stack's Grafana, or the user's own."""
        named = said.get("GRAFANA_PUBLIC_URL") or said.get("GRAFANA_URL")
        return self.facts["GRAFANA_PUBLIC_URL"] if self.facts["GRAFANA_HOME"] or named else ""

    def running(self) -> bool:
        """Return whether this stack's process-compose runs; components may still be starting."""
        processes = supervisor.own_processes(str(self.state_dir))
        return any(supervisor.is_supervisor(process) for process in processes)

    def states(self, *, usage: bool = False) -> dict[str, ProcessState]:
        """Return each component's state; empty if process-compose does not run."""
        try:
            return supervisor.states(str(self.state_dir))
        except httpx2.TransportError:
            return {}

    def stop(self) -> bool:
        """Stop all components of this stack, in order; return False if none was running."""
        processes = supervisor.own_processes(str(self.state_dir))
        for process in filter(supervisor.is_supervisor, processes):
            _signal(process.terminate)
        if any(map(supervisor.is_supervisor, processes)):
            psutil.wait_procs(processes, timeout=self.stop_timeout_s + app_stop_seconds())
        _end(supervisor.own_processes(str(self.state_dir)))
        supervisor.control_socket(str(self.state_dir)).unlink(missing_ok=True)
        forget(self.facts)
        return bool(processes)

    def log_tail(self, name: str, lines: int = TAIL_LINES) -> str:
        """Return the last lines of a component's log since the stack's start, oldest first."""
        return "\n".join(self._since_start(name)[-lines:]) or logs.NOTHING

    def _since_start(self, name: str) -> list[str]:
        """Return the lines of a component's log since the stack's start, oldest first."""
        try:
            text = (self.log_dir / f"{name}.log").read_text(errors="replace")
        except FileNotFoundError:
            return []
        # Split at newlines only: a line may contain other separators.
        return text.rpartition(_START_LINE)[2].rstrip("\n").split("\n")[1:]

    def show_logs(self, names: Sequence[str], lines: int, *, follow: bool) -> bool:
        """Print the last lines of the log files, or new lines."""
        if not self.log_dir.is_dir():
            return False
        console = Terminal()
        if follow:
            logs.follow(console, self.log_dir, names)
        else:
            for name in names:
                logs.heading(console, name, self.log_dir / f"{name}.log")
                logs.show(console, self._since_start(name)[-lines:], whole=len(names) == 1)
        return True

    def _mark_logs(self) -> None:
        # The logs of earlier runs remain: separate them from this run's.
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        for part in self.parts:
            path = self.log_dir / f"{part.name}.log"
            path.touch(mode=0o600)
            with path.open("a") as log:
                log.write(f"{_START_LINE}{now}\n")

    def _render_prometheus(self) -> None:
        """Create Prometheus's directory, in which it finds targets, Alertmanager and rules."""
        directory = self.run_dir / "prometheus"
        directory.mkdir(parents=True, exist_ok=True)
        for name, place in {"prometheus.yml": ROOT, "rules": Path(self.facts["RULES_DIR"])}.items():
            link = directory / name
            link.unlink(missing_ok=True)
            link.symlink_to(place / "prometheus" / name)
        host = self.facts["STACK_HOST"]
        found = {
            "targets": self._targets(),
            "alertmanagers": [{"targets": [f"{host}:{self.facts['ALERTMANAGER_PORT']}"]}],
        }
        for kind, groups in found.items():
            (directory / kind).mkdir(exist_ok=True)
            (directory / kind / "stack.json").write_text(json.dumps(groups, indent=1))

    def _targets(self) -> list[dict[str, object]]:
        """Return the scraped components, in the format of Prometheus."""
        host = self.facts["STACK_HOST"]
        return [
            {"targets": [f"{host}:{self.facts[port]}"], "labels": {"job": job}}
            for job, port in self.scraped.items()
        ]


def _direct(facts: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return NO_PROXY with the addresses of this stack: proxies are for external addresses."""
    here = ["localhost", "127.0.0.1", facts["STACK_HOST"], facts["PUBLISHED_AT"]]
    said = [own.get(name, "") for name in _NO_PROXY]
    hosts = ",".join(dict.fromkeys(filter(None, [*here, *said])))
    return dict.fromkeys(_NO_PROXY, hosts)


def _end(processes: list[psutil.Process]) -> None:
    """End remaining processes: orphans of a killed process-compose, or those that do not stop."""
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
