"""The stack in containers, by docker compose: the same face as stack/native.py."""

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

# Longer than all stop_grace_periods, without the app's, one after another.
STOP_TIMEOUT_S = 110.0
# Since this one, the engine knows start_interval.
_START_INTERVAL_ENGINE = 25
# The service that looks whether the parts can read their configuration.
_CHECKOUT = "checkout"
_ENDED = {"exited": "Completed", "dead": "Error", "restarting": "Restarting"}


class DockerError(RuntimeError):
    """Docker did not do what it was asked; the text has what it said."""


class DockerStack(Stack):
    """All parts as containers of one compose project."""

    kind = "with Docker"
    ready_timeout_s = 120.0
    # Each look is two calls of the docker client.
    poll_interval_s = 0.25

    def __init__(self, facts: Mapping[str, str], without: Mapping[str, str] | None = None) -> None:
        """`without` names parts that are not to run, each with the reason."""
        super().__init__(facts)
        self._without = dict(without or {})
        # What `is_ready` saw, and when: a look is two calls of the docker client.
        self._lately: dict[str, ProcessState] = {}
        self._looked = -math.inf

    @property
    def missing(self) -> dict[str, str]:
        """The parts that do not run here, each with the reason."""
        if self._without or not (running := self.states()):
            return self._without
        again = "it was left out when the stack was started: make down, make up"
        return {part.name: again for part in PARTS if part.name not in running}

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that run here, or are to."""
        missing = self.missing
        return tuple(part for part in PARTS if part.name not in missing)

    def start(self) -> None:
        """Starts all parts, whose images must be there. Raises PartDiedError, DockerError.

        Returns when each part that others wait for is healthy, and the rest is started.
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
        """Copy those of the operator to SECRETS_DIR of this machine. Raises DockerError."""
        directory = Path(self.facts["SECRETS_DIR"])
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of an earlier stack.
        shutil.rmtree(directory / "operator", ignore_errors=True)
        done = self.compose("cp", "secrets:/run/secrets/operator", str(directory))
        if done.returncode != 0:
            raise DockerError(f"docker compose cp: {_last_lines(done.stderr)}")

    def is_ready(self, part: Part) -> bool:
        """Whether the engine's health check says so: not every part is published."""
        now = time.monotonic()
        if now - self._looked > self.poll_interval_s:
            self._lately, self._looked = self.states(), now
        state = self._lately.get(part.name)
        return state is not None and state.healthy

    def running(self) -> bool:
        """Whether there are containers of this stack that run, or are being started again."""
        return any(
            state.running or state.status == "Restarting" for state in self.states().values()
        )

    def states(self, *, usage: bool = False) -> dict[str, ProcessState]:
        """What the engine knows of each part; nothing when none answers. `usage`: memory too."""
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
        """Removes the containers, not the volumes; False when there were none."""
        try:
            there = bool(self._containers())
        except DockerError:
            return False
        if there:
            self._down()
            forget(self.facts)
        return there

    def log_tail(self, name: str, lines: int = TAIL_LINES) -> str:
        """The last lines that a part wrote, oldest first."""
        done = self.compose("logs", "--no-log-prefix", "--no-color", "--tail", str(lines), name)
        return done.stdout.strip() or "(it wrote nothing)"

    def show_logs(self, names: Sequence[str], lines: int, *, follow: bool) -> bool:
        """Prints the last lines of each part; goes on until interrupted when told to."""
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
        """The compose files, merged and with all variables filled in. Raises DockerError."""
        done = self.compose("config", "--format", "json")
        if done.returncode != 0:
            raise DockerError(f"docker compose config: {_last_lines(done.stderr)}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def compose(
        self, *words: str, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs `docker compose` on this stack."""
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
        """What docker compose finds in its environment: the facts, the project, the files."""
        said = own_environment()
        environ = {**os.environ, **self.facts}
        if self.facts["PUBLISH_HOST"] == "localhost":
            # Docker publishes on addresses only.
            environ["PUBLISH_HOST"] = "127.0.0.1"
        environ["COMPOSE_PROJECT_NAME"] = said.get("COMPOSE_PROJECT_NAME") or self._project()
        environ["COMPOSE_FILE"] = said.get("COMPOSE_FILE") or os.pathsep.join(_files())
        return environ

    def dispose(self) -> None:
        """Removes the volumes, too."""
        self._down("--volumes")
        forget(self.facts)

    def _project(self) -> str:
        # As with the native way, another STATE_DIR is another stack.
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
    """What the docker client says. Raises DockerError."""
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
        raise DockerError(_last_lines(done.stderr) or f"docker {words[0]} failed, without a word")
    return done.stdout


def engine_version() -> str:
    """The version of the engine that answers. Raises DockerError when none does."""
    return docker("version", "--format", "{{.Server.Version}}", timeout=10.0).strip()


def compose_files(engine: str) -> list[str]:
    """Our compose files, and what an engine of that version needs beside them."""
    old = int(engine.split(".", maxsplit=1)[0]) < _START_INTERVAL_ENGINE
    more = ["deploy/old-engine.compose.yaml"] if old else []
    return ["docker-compose.yml", "deploy/backends.compose.yaml", *more]


def _files() -> list[str]:
    """The compose files for the engine that answers, and a person's own beside them."""
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
    """The size that docker stats writes as 12.3MiB."""
    units = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "kB": 1000, "B": 1}
    unit = next(unit for unit in units if text.endswith(unit))
    return int(float(text.removesuffix(unit)) * units[unit])


def _last_lines(text: str, count: int = 5) -> str:
    return "\n".join(text.strip().splitlines()[-count:])
