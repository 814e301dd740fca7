"""The stack as `docker compose up` starts it, and what the engine and this machine say of it."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.parts import PARTS
from tests.engine.engine import Engine

# A start under load, and the stores' replay of their logs.
PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class Container:
    """One container as the engine sees it."""

    inspected: Mapping[str, Any]

    @property
    def pid(self) -> int:
        """Its first process, on this machine; 0 while there is none."""
        pid: int = self.inspected["State"]["Pid"]
        return pid

    @property
    def health(self) -> str:
        """healthy, unhealthy or starting; what it does instead when it does not run."""
        state = self.inspected["State"]
        health: str = state["Health"]["Status"] if state["Running"] else state["Status"]
        return health

    @property
    def published(self) -> set[tuple[str, int]]:
        """Addresses and ports of this machine that lead into it."""
        ports = self.inspected["NetworkSettings"]["Ports"].values()
        return {(on["HostIp"], int(on["HostPort"])) for bound in ports for on in bound or ()}

    def status(self, name: str) -> list[str]:
        """A line of /proc/PID/status: what the kernel says of its first process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            key, _, values = line.partition(":")
            if key == name:
                return values.split()
        raise KeyError(name)

    def mounts(self) -> Iterator[tuple[str, set[str]]]:
        """Each place where something is mounted, with its options."""
        for line in Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines():
            words = line.split()
            yield words[4], set(words[5].split(","))


@dataclass(frozen=True)
class Project:
    """A compose project with ports of its own, on an engine."""

    engine: Engine
    facts: dict[str, str]
    environ: dict[str, str]

    @property
    def services(self) -> list[str]:
        """The parts that have an image here."""
        return [part.name for part in PARTS if part.name not in self.engine.missing]

    def compose(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`docker compose`, as a person types it, with success."""
        done = self.engine.run("compose", *words, environ=self.environ)
        assert done.returncode == 0, done.stderr
        return done

    def up(self) -> None:
        """All parts, healthy; without those that have no image here."""
        named = self.services if self.engine.missing else []
        self.compose("up", "--wait", *named)
        self.fetch_secrets()

    def fetch_secrets(self) -> None:
        """Those of the operator, as `make up` copies them."""
        directory = Path(self.facts["SECRETS_DIR"])
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(directory / "operator", ignore_errors=True)
        self.compose("cp", "secrets:/run/secrets/operator", str(directory))

    def containers(self) -> dict[str, Container]:
        """What was started, by the service's name; what ran once and ended, too."""
        ids = self.compose("ps", "--all", "--quiet").stdout.split()
        rows = json.loads(self.engine.asked("inspect", *ids)) if ids else []
        label = "com.docker.compose.service"
        return {row["Config"]["Labels"][label]: Container(row) for row in rows}

    def parts(self) -> dict[str, Container]:
        """The containers of the parts."""
        found = self.containers()
        return {name: found[name] for name in self.services}

    def configuration(self) -> dict[str, Any]:
        """The compose files, merged and filled in."""
        found: dict[str, Any] = json.loads(self.compose("config", "--format", "json").stdout)
        return found
