"""The stack started by `docker compose up`, as reported by the engine and the kernel."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.parts import PARTS
from tests.engine.engine import Engine

# Startup under load, including the replay of write-ahead logs.
PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class Container:
    """One container, as reported by the engine."""

    inspected: Mapping[str, Any]

    @property
    def pid(self) -> int:
        """The process ID of its first process; 0 without one."""
        pid: int = self.inspected["State"]["Pid"]
        return pid

    @property
    def health(self) -> str:
        """healthy, unhealthy or starting; its status if it does not run."""
        state = self.inspected["State"]
        health: str = state["Health"]["Status"] if state["Running"] else state["Status"]
        return health

    @property
    def published(self) -> set[tuple[str, int]]:
        """Published addresses and ports of this machine."""
        ports = self.inspected["NetworkSettings"]["Ports"].values()
        return {(on["HostIp"], int(on["HostPort"])) for bound in ports for on in bound or ()}

    def status(self, name: str) -> list[str]:
        """Return a line of /proc/PID/status of its first process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            key, _, values = line.partition(":")
            if key == name:
                return values.split()
        raise KeyError(name)

    def mounts(self) -> Iterator[tuple[str, set[str]]]:
        """Yield each mount point, with its options."""
        for line in Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines():
            words = line.split()
            yield words[4], set(words[5].split(","))


@dataclass(frozen=True)
class Project:
    """A compose project with separate ports, on an engine."""

    engine: Engine
    facts: dict[str, str]
    environ: dict[str, str]

    @property
    def services(self) -> list[str]:
        """The components whose images are available."""
        return [part.name for part in PARTS if part.name not in self.engine.missing]

    def compose(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose` as a user does; fail unless it succeeds."""
        done = self.engine.run("compose", *words, environ=self.environ)
        assert done.returncode == 0, done.stderr
        return done

    def up(self) -> None:
        """Start all components with an image, and wait until they are healthy."""
        named = self.services if self.engine.missing else []
        self.compose("up", "--wait", *named)
        self.fetch_secrets()

    def fetch_secrets(self) -> None:
        """Copy the operator's secrets, like `make up`."""
        directory = Path(self.facts["SECRETS_DIR"])
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(directory / "operator", ignore_errors=True)
        self.compose("cp", "secrets:/run/secrets/operator", str(directory))

    def containers(self) -> dict[str, Container]:
        """Return all containers by service, including those that have exited."""
        ids = self.compose("ps", "--all", "--quiet").stdout.split()
        rows = json.loads(self.engine.asked("inspect", *ids)) if ids else []
        label = "com.docker.compose.service"
        return {row["Config"]["Labels"][label]: Container(row) for row in rows}

    def parts(self) -> dict[str, Container]:
        """Return the containers of the components."""
        found = self.containers()
        return {name: found[name] for name in self.services}

    def configuration(self) -> dict[str, Any]:
        """Return the merged compose files with all variables resolved."""
        found: dict[str, Any] = json.loads(self.compose("config", "--format", "json").stdout)
        return found
