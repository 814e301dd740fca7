"""The stack in containers, with docker compose: the same interface as stack/native.py."""

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from stack import logs
from stack.base import TAIL_LINES, Stack
from stack.facts import DEFAULT_STATE_DIR, ROOT, app_stop_seconds, own_environment
from stack.parts import PARTS, Part
from stack.recorded import forget, record
from stack.supervisor import ProcessState
from stack.terminal import Terminal

# More than the sum of all stop_grace_periods except the app's.
STOP_TIMEOUT_S = 110.0
# The first engine that supports start_interval.
_START_INTERVAL_ENGINE = 25
# The service that checks whether the components can read their configuration.
_CHECKOUT = "checkout"
_ENDED = {"exited": "Completed", "dead": "Error", "restarting": "Restarting"}


class DockerError(RuntimeError):
    """A docker command failed; the text contains its output."""


class DockerStack(Stack):
    """All components as containers of one compose project."""

    kind = "with Docker"
    ready_timeout_s = 120.0
    # Each poll is two calls of the docker client.
    poll_interval_s = 0.25

    def __init__(self, facts: Mapping[str, str], without: Mapping[str, str] | None = None) -> None:
        """`without`: components that shall not run, each with the reason."""
        super().__init__(facts)
        self._without = dict(without or {})
        # Cache of `is_ready` and its time: a poll is two calls of the docker client.
        self._lately: dict[str, ProcessState] = {}
        self._looked = -math.inf

    @property
    def missing(self) -> dict[str, str]:
        """The components that do not run, each with the reason."""
        if self._without or not (running := self.states()):
            return self._without
        again = "it was left out when the stack was started: make down, make up"
        return {part.name: again for part in PARTS if part.name not in running}

    @property
    def parts(self) -> tuple[Part, ...]:
        """The components that run, or will be started."""
        missing = self.missing
        return tuple(part for part in PARTS if part.name not in missing)

    def start(self) -> None:
        """Start all components, whose images must exist. Raises PartDiedError, DockerError.

        Returns when each component that others depend on is healthy, and the rest is started.
        """
        record(self.facts)
        self._restarts_before = {}
        services = [part.name for part in self.parts]
        done = self.compose("up", "--detach", "--no-build", "--remove-orphans", *services)
        if done.returncode != 0:
            self.raise_if_dead()
            said = _last_lines(done.stderr)
            if f'service "{_CHECKOUT}"' in said:
                said = self.log_tail(_CHECKOUT)
            raise DockerError(f"docker compose up: {said}")
        self.fetch_secrets()

    def fetch_secrets(self) -> None:
        """Copy the operator's secrets to SECRETS_DIR of this machine. Raises DockerError."""
        directory = Path(self.facts["SECRETS_DIR"])
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Files of an earlier stack.
        shutil.rmtree(directory / "operator", ignore_errors=True)
        done = self.compose("cp", "secrets:/run/secrets/operator", str(directory))
        if done.returncode != 0:
            raise DockerError(f"docker compose cp: {_last_lines(done.stderr)}")

    def is_ready(self, part: Part) -> bool:
        """Return the engine's health status, since not every component is published."""
        now = time.monotonic()
        if now - self._looked > self.poll_interval_s:
            self._lately, self._looked = self.states(), now
        state = self._lately.get(part.name)
        return state is not None and state.healthy

    def running(self) -> bool:
        """Return whether containers of this stack are running or restarting."""
        return any(
            state.running or state.status == "Restarting" for state in self.states().values()
        )

    def states(self, *, usage: bool = False) -> dict[str, ProcessState]:
        """Return each component's state, empty without an engine; `usage`: with memory."""
        try:
            ids = self._containers()
            rows = json.loads(docker("inspect", *ids)) if ids else []
        except DockerError:
            return {}
        memory = self._memory() if usage else {}
        states = [_state(row, memory.get(row["Id"], 0)) for row in rows]
        known = {part.name for part in PARTS}
        return {state.name: state for state in states if state.name in known}

    def stop(self) -> bool:
        """Remove the containers, not the volumes; return False if there were none."""
        try:
            there = bool(self._containers())
        except DockerError:
            return False
        if there:
            self._down()
            forget(self.facts)
        return there

    def log_tail(self, name: str, lines: int = TAIL_LINES) -> str:
        """Return the last lines of a component's log, oldest first."""
        done = self.compose("logs", "--no-log-prefix", "--no-color", "--tail", str(lines), name)
        return done.stdout.strip() or logs.NOTHING

    def show_logs(self, names: Sequence[str], lines: int, *, follow: bool) -> bool:
        """Print the last lines of each component's log, and new lines with `follow`."""
        words = ["logs", "--tail", str(lines), *(["--follow"] if follow else []), *names]
        with subprocess.Popen(
            ["docker", "compose", *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process:
            assert process.stdout is not None  # noqa: S101
            written = (text.rstrip("\n") for text in process.stdout)
            logs.show(Terminal(), written, whole=follow or len(names) == 1)
            process.terminate()
        return True

    def configuration(self) -> dict[str, Any]:
        """Return the merged compose files with all variables resolved. Raises DockerError."""
        done = self.compose("config", "--format", "json")
        if done.returncode != 0:
            raise DockerError(f"docker compose config: {_last_lines(done.stderr)}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def compose(
        self, *words: str, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` on this stack."""
        return subprocess.run(
            ["docker", "compose", *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout,
        )

    @cached_property
    def environment(self) -> dict[str, str]:
        """Environment of docker compose: the facts, the project name, the files."""
        said = own_environment()
        environ = {**os.environ, **self.facts}
        if self.facts["PUBLISH_HOST"] == "localhost":
            # Docker publishes on IP addresses only.
            environ["PUBLISH_HOST"] = "127.0.0.1"
        environ["COMPOSE_PROJECT_NAME"] = said.get("COMPOSE_PROJECT_NAME") or self._project()
        environ["COMPOSE_FILE"] = said.get("COMPOSE_FILE") or os.pathsep.join(_files())
        return environ

    def dispose(self) -> None:
        """Remove the volumes, too."""
        self._down("--volumes")
        forget(self.facts)

    def _project(self) -> str:
        # As in a native stack, another STATE_DIR is another stack.
        directory = Path(self.facts["STATE_DIR"])
        if directory == (ROOT / DEFAULT_STATE_DIR).resolve():
            return "chatscope"
        return f"chatscope-{sha256(os.fsencode(directory)).hexdigest()[:8]}"

    def _containers(self) -> list[str]:
        project = self.environment["COMPOSE_PROJECT_NAME"]
        label = f"label=com.docker.compose.project={project}"
        return docker("ps", "--all", "--quiet", "--no-trunc", "--filter", label).split()

    def _down(self, *more: str) -> None:
        words = ["--profile", "*", "down", "--remove-orphans", *more]
        done = self.compose(*words, timeout=STOP_TIMEOUT_S + app_stop_seconds())
        if done.returncode != 0:
            raise DockerError(f"docker compose down: {_last_lines(done.stderr)}")

    def _memory(self) -> dict[str, int]:
        template = "{{.ID}} {{.MemUsage}}"
        words = ["stats", "--no-stream", "--no-trunc", "--format", template]
        lines = [line.split() for line in docker(*words).splitlines()]
        return {line[0]: _bytes(line[1]) for line in lines}


def docker(*words: str, timeout: float = 30.0) -> str:
    """Return the output of a docker command. Raises DockerError."""
    try:
        done = subprocess.run(
            ["docker", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DockerError(f"docker {words[0]}: {error}") from error
    if done.returncode != 0:
        raise DockerError(_last_lines(done.stderr) or f"docker {words[0]} failed without output")
    return done.stdout


def engine_version() -> str:
    """Return the engine's version. Raises DockerError if none responds."""
    return docker("version", "--format", "{{.Server.Version}}", timeout=10.0).strip()


def compose_files(engine: str) -> list[str]:
    """Return our compose files, with those that an engine of that version needs."""
    old = int(engine.split(".", maxsplit=1)[0]) < _START_INTERVAL_ENGINE
    more = ["deploy/old-engine.compose.yaml"] if old else []
    return ["docker-compose.yml", "deploy/backends.compose.yaml", *more]


def _files() -> list[str]:
    """Return the compose files for this engine, with the user's override file."""
    files = compose_files(engine_version())
    if (ROOT / "docker-compose.override.yml").exists():
        files.append("docker-compose.override.yml")
    return files


def _state(row: Mapping[str, Any], memory: int) -> ProcessState:
    state = row["State"]
    running = state["Status"] == "running"
    uptime = datetime.now(UTC) - datetime.fromisoformat(state["StartedAt"])
    return ProcessState(
        name=row["Config"]["Labels"]["com.docker.compose.service"],
        status=_ENDED.get(state["Status"], state["Status"].capitalize()),
        running=running,
        pid=state["Pid"],
        restarts=row["RestartCount"],
        exit_code=state["ExitCode"],
        memory=memory,
        uptime=uptime.total_seconds() if running else 0.0,
        healthy=running and state.get("Health", {}).get("Status") == "healthy",
    )


def _bytes(text: str) -> int:
    """Return the size in bytes, from a text of docker stats such as 12.3MiB."""
    units = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "kB": 1000, "B": 1}
    unit = next(unit for unit in units if text.endswith(unit))
    return int(float(text.removesuffix(unit)) * units[unit])


def _last_lines(text: str, count: int = 5) -> str:
    return "\n".join(text.strip().splitlines()[-count:])
