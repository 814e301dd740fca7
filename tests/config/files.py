"""The configuration files as data, and what all of them are asked."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stack.facts import ROOT

COLLECTOR = ROOT / "otel-collector-config.yaml"
MANIFEST = ROOT / "stack" / "collector" / "manifest.yaml"
LOKI = ROOT / "loki" / "loki.yaml"
TEMPO = ROOT / "tempo" / "tempo.yaml"
PROMETHEUS = ROOT / "prometheus" / "prometheus.yml"
DOCKER_TARGETS = ROOT / "prometheus" / "targets" / "docker.json"
ALERTMANAGER = ROOT / "alertmanager" / "alertmanager.yml"
GRAFANA = ROOT / "grafana-provisioning"
GRAFANA_INI = GRAFANA / "grafana.ini"
DATASOURCES = GRAFANA / "datasources" / "datasources.yaml"
COMPOSE = ROOT / "docker-compose.yml"
BACKENDS_COMPOSE = ROOT / "deploy" / "backends.compose.yaml"
DOCKERFILE = ROOT / "Dockerfile"
PROCESSES = ROOT / "stack" / "process-compose.yaml"

# Only the parts themselves use these: no container publishes them.
INSIDE_PORTS = {"COLLECTOR_HOP_PORT", "GATEWAY_PORT", "LOKI_GRPC_PORT", "TEMPO_GRPC_PORT"}

# What is never rejected: so many spans a second, and as many log lines, each of so many bytes with
# its resource and metadata; a limit stands twice as high at least.
NOMINAL_PER_SECOND = 2000
NOMINAL_BYTES = 2048
AMPLE = 2

# The one in C takes a tenth of the time.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The innermost, where a file is named by one.
_VARIABLE = re.compile(r"\$\{(?:env:)?([^${}]*)\}")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|localhost|::|:\d{2,5}(/|$)")


def parsed(path: Path) -> Any:
    """The file's content as plain data."""
    return yaml.load(path.read_text(), Loader=_LOADER)  # noqa: S506 - both are safe ones


def seconds(duration: str) -> float:
    """A duration of one unit, as Go spells it."""
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s|m|h)", duration).groups()  # type: ignore[union-attr]
    return float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def variables(path: Path) -> set[str]:
    """Every name that is expanded, in comments too: Loki and Tempo expand there as well."""
    return set(_VARIABLE.findall(path.read_text()))


def literal_addresses(path: Path) -> list[str]:
    """Each value that spells out a host or a port instead of naming a fact."""
    return [
        f"{key}: {value}"
        for key, value in _scalars(parsed(path), "")
        if _ADDRESS.search(value) or (key.endswith("port") and value.isdigit())
    ]


def broken_copy(path: Path, directory: Path, old: str, new: str) -> Path:
    """A copy with the first `old` replaced by `new`."""
    text = path.read_text()
    assert old in text
    copy = directory / path.name
    copy.write_text(text.replace(old, new, 1))
    return copy


def _scalars(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _scalars(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _scalars(inner, key)
    else:
        yield key, str(value)
