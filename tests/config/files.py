"""The parsed configuration files, and checks that apply to all of them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stack.facts import ROOT

COLLECTOR = ROOT / "otel-collector-config.yaml"
MANIFEST = ROOT / "stack" / "collector" / "manifest.yaml"
SCALED_MANIFEST = ROOT / "stack" / "collector-scaled" / "manifest.yaml"
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
SCALE_COMPOSE = ROOT / "deploy" / "scale.compose.yaml"
DOCKERFILE = ROOT / "Dockerfile"
PROCESSES = ROOT / "stack" / "process-compose.yaml"
SCALED_PROCESSES = ROOT / "deploy" / "scale" / "process-compose.yaml"
KUBERNETES = ROOT / "deploy" / "kubernetes"

# Used by components only: no container publishes them.
INSIDE_PORTS = {"COLLECTOR_HOP_PORT", "GATEWAY_PORT", "LOKI_GRPC_PORT", "TEMPO_GRPC_PORT"}

# The nominal load, which is never rejected: this number of spans per second, and as many log lines,
# each with this number of bytes including resource and metadata. Limits are at least twice as high.
NOMINAL_PER_SECOND = 2000
NOMINAL_BYTES = 2048
AMPLE = 2

# The C implementation takes a tenth of the time.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The innermost variable, if names are nested.
_VARIABLE = re.compile(r"\$\{(?:env:)?([^${}]*)\}")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|localhost|::|:\d{2,5}(/|$)")


def parsed(path: Path) -> Any:
    """Return the file's content as plain data."""
    return yaml.load(path.read_text(), Loader=_LOADER)  # noqa: S506 - both are safe ones


def seconds(duration: str) -> float:
    """Return the seconds of a Go duration with one unit."""
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s|m|h)", duration).groups()  # type: ignore[union-attr]
    return float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def variables(path: Path) -> set[str]:
    """Return every expanded name, including those in comments, where Loki and Tempo expand too."""
    return set(_VARIABLE.findall(path.read_text()))


def literal_addresses(path: Path) -> list[str]:
    """Return each value that contains a literal host or port instead of a fact."""
    return [
        f"{key}: {value}"
        for key, value in _scalars(parsed(path), "")
        if _ADDRESS.search(value) or (key.endswith("port") and value.isdigit())
    ]


def broken_copy(path: Path, directory: Path, old: str, new: str) -> Path:
    """Write a copy with the first `old` replaced by `new`."""
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
