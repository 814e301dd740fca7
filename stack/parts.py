"""The parts of the stack: what each is built from, where it listens, how it tells it is ready."""

import hashlib
import os
import platform
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stack import releases
from stack.facts import ROOT
from stack.machine import go_version

BUILD_FLAGS = ("-mod=readonly", "-trimpath", "-ldflags=-s -w")


@dataclass(frozen=True)
class Binary:
    """One program built from a pinned Go module; `module` is a directory of stack/."""

    name: str
    module: str
    package: str
    tags: str = ""
    # The Collector's sources are written by its builder, from the manifest.
    generated: bool = False
    # Only the tests want it, so `make up` does not wait for it.
    for_tests: bool = False

    @property
    def directory(self) -> Path:
        return ROOT / "stack" / self.module

    def sources(self) -> list[Path]:
        """The files that decide what is built."""
        names = ["go.mod", "go.sum", *(["manifest.yaml"] if self.generated else [])]
        return [self.directory / name for name in names]

    def flags(self) -> list[str]:
        return [*BUILD_FLAGS, *([f"-tags={self.tags}"] if self.tags else [])]


@dataclass(frozen=True)
class Part:
    """One running program: the facts that name its ports, and where it answers when ready."""

    name: str
    # The fact that says where a person or another part reaches it.
    address: str
    ports: tuple[str, ...]
    ready_url: str
    # The fact with the address that it listens on.
    listen: str = "STACK_LISTEN"

    def readiness(self, facts: Mapping[str, str]) -> str:
        """The URL that answers 200 once this part is ready."""
        return self.ready_url.format_map(facts)


# In the order in which they are built: the smallest first, so that a broken set-up shows early.
BINARIES = (
    Binary("process-compose", "process-compose", "github.com/f1bonacc1/process-compose"),
    Binary("alertmanager", "alertmanager", "github.com/prometheus/alertmanager/cmd/alertmanager"),
    Binary("caddy", "gateway", "github.com/caddyserver/caddy/v2/cmd/caddy"),
    Binary("otelcol", "collector", ".", generated=True),
    Binary(
        "prometheus",
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        tags="remove_all_sd",
    ),
    Binary("tempo", "tempo", "github.com/grafana/tempo/cmd/tempo"),
    Binary("loki", "loki", "github.com/grafana/loki/v3/cmd/loki"),
    Binary(
        "promtool",
        "prometheus",
        "github.com/prometheus/prometheus/cmd/promtool",
        tags="remove_all_sd",
        for_tests=True,
    ),
    # Makes the rules of the objectives: wanted by who changes alerts/, and by the tests.
    Binary("sloth", "sloth", "github.com/slok/sloth/cmd/sloth", for_tests=True),
    Binary(
        "amtool",
        "alertmanager",
        "github.com/prometheus/alertmanager/cmd/amtool",
        for_tests=True,
    ),
    Binary("docker-compose", "docker-compose", "github.com/docker/compose/v2/cmd", for_tests=True),
)

# In the order in which a person reads them.
PARTS = (
    Part("app", "APP_URL", ("APP_PORT",), "{APP_URL}/readyz", listen="PUBLISH_HOST"),
    Part(
        "collector",
        "OTLP_URL",
        (
            "OTLP_GRPC_PORT",
            "OTLP_HTTP_PORT",
            "APP_METRICS_PORT",
            "COLLECTOR_METRICS_PORT",
            "COLLECTOR_HEALTH_PORT",
            "COLLECTOR_HOP_PORT",
        ),
        "{COLLECTOR_HEALTH_URL}",
    ),
    # The backends ask for a password; the gateway tells without one whether they are ready.
    Part(
        "prometheus",
        "PROMETHEUS_URL",
        ("PROMETHEUS_PORT",),
        "{GATEWAY_URL}/prometheus/-/ready",
    ),
    # It listens for Loki and Tempo, too.
    Part(
        "gateway", "GATEWAY_URL", ("GATEWAY_PORT", "LOKI_PORT", "TEMPO_PORT"), "{GATEWAY_URL}/ready"
    ),
    Part("loki", "LOKI_URL", ("LOKI_GRPC_PORT",), "{LOKI_URL}/ready", listen="STACK_HOST"),
    Part("tempo", "TEMPO_URL", ("TEMPO_GRPC_PORT",), "{TEMPO_URL}/ready", listen="STACK_HOST"),
    Part(
        "alertmanager",
        "ALERTMANAGER_URL",
        ("ALERTMANAGER_PORT",),
        "{GATEWAY_URL}/alertmanager/-/ready",
    ),
    Part(
        "grafana",
        "GRAFANA_URL",
        ("GRAFANA_PORT",),
        "{GRAFANA_URL}/api/health",
        listen="PUBLISH_HOST",
    ),
)


def cache_dir() -> Path:
    """Where built parts are kept, shared by all checkouts of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "chatscope"


def cache_key(sources: Iterable[Path], go: str, flags: Iterable[str]) -> str:
    """12 hex digits that change when anything does that decides the built file."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    words = (go, sys.platform, platform.machine(), *flags)
    digest.update("\0".join(words).encode())
    return digest.hexdigest()[:12]


@cache
def binary_path(name: str) -> Path:
    """Where the built program is in the cache, whether or not it is there yet.

    Raises KeyError for a name that is not built, MachineError when there is no usable Go.
    """
    binary = next((known for known in BINARIES if known.name == name), None)
    if binary is None:
        raise KeyError(name)
    key = cache_key(binary.sources(), go_version(str(binary.directory)), binary.flags())
    return cache_dir() / f"{name}-{key}" / name


def released(facts: Mapping[str, str]) -> releases.Found:
    """The official releases on this machine."""
    return releases.find(facts.get("COMPONENTS_DIR", ""), os.environ.get("PATH", ""))


def program_path(name: str, facts: Mapping[str, str]) -> Path:
    """The program that a native stack runs: an official release, else the built one.

    Raises what `binary_path` raises.
    """
    release = released(facts).used.get(name)
    return Path(release.path) if release else binary_path(name)


def missing_binaries(
    *, with_tests: bool = True, only: str = "", without: Collection[str] = ()
) -> list[Binary]:
    """The programs that are still to be built, for all commands or only for a stack to run.

    `without` are those that are not needed, because there are releases of them.
    """
    wanted = [
        binary
        for binary in BINARIES
        if (binary.name == only if only else with_tests or not binary.for_tests)
        and binary.name not in without
    ]
    return [binary for binary in wanted if not binary_path(binary.name).is_file()]
