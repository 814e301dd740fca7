"""The stack's own secrets: creation, and access to those of the operator."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx2

from stack.facts import ROOT
from stack.local_http import local_client
from stack.parts import program_path

_SCRIPT = ROOT / "gateway" / "secrets.sh"
# A setting of the package: the file with headers for all telemetry (docs/otlp.md).
HEADERS_FILE = "CHATSCOPE_OTLP_HEADERS_FILE"


class SecretsError(RuntimeError):
    """The secrets could not be created; the text contains the reason."""


def make(facts: Mapping[str, str]) -> None:
    """Create missing secrets, for a native stack. Raises SecretsError."""
    directory = Path(facts["SECRETS_DIR"])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    caddy = str(program_path("caddy", facts))
    run(_SCRIPT, {"HOME": str(directory), "SECRETS_DIR": str(directory), "CADDY": caddy})


def run(script: Path, environ: Mapping[str, str]) -> None:
    """Run a script that creates secrets, with nothing else in its environment but PATH.

    Raises SecretsError.
    """
    done = subprocess.run(
        ["sh", script],
        env={"PATH": os.defpath, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SecretsError(f"the secrets of the stack cannot be created: {done.stderr.strip()}")


def operator(facts: Mapping[str, str]) -> httpx2.Auth:
    """Return the operator's credentials at the backends; none if there are no secrets yet."""
    try:
        return httpx2.BasicAuth("operator", _secret(facts, "password"))
    except FileNotFoundError:
        return httpx2.Auth()


def backend_client(facts: Mapping[str, str], url: str, timeout: float = 5.0) -> httpx2.Client:
    """Return a client, with the operator's credentials, of the backend at the fact `url`."""
    client = local_client(facts[url], timeout=timeout)
    client.auth = operator(facts)
    return client


def telemetry_headers(facts: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with which the Collector accepts telemetry."""
    return {"authorization": f"Bearer {_secret(facts, 'token')}"}


def metrics_headers(facts: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with which the Collector exposes the services' metrics."""
    return {"authorization": f"Bearer {_secret(facts, 'metrics_token')}"}


def telemetry_variables(facts: Mapping[str, str], url: str = "OTLP_URL") -> dict[str, str]:
    """Return the variables with which a service sends to the Collector at the fact `url`."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": facts[url], HEADERS_FILE: headers_file(facts)}
    if authority := facts.get("OTLP_CA_FILE"):
        variables["OTEL_EXPORTER_OTLP_CERTIFICATE"] = authority
    return variables


def headers_file(facts: Mapping[str, str]) -> str:
    """Return the path of the file with `telemetry_headers`, the value of HEADERS_FILE."""
    return str(Path(facts["SECRETS_DIR"]) / "operator" / "otlp_headers")


def grafana(facts: Mapping[str, str]) -> str:
    """Return the Authorization header of a native Grafana at the gateway."""
    return (Path(facts["SECRETS_DIR"]) / "grafana" / "basic").read_text()


def _secret(facts: Mapping[str, str], name: str) -> str:
    return (Path(facts["SECRETS_DIR"]) / "operator" / name).read_text().strip()
