"""A Loki or a Tempo for a test, with the configuration of the stack, on free ports."""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from stack import facts, secrets, supervisor
from stack.facts import ROOT
from stack.local_http import local_client
from stack.parts import binary_path
from stack.waiting import poll_until
from tests.builds import wait_for_binaries
from tests.running import PATIENCE_SECONDS

# Without the gateway, which requires a password.
ON_A_PORT = ("-server.http-listen-network=tcp", "-server.http-listen-address=127.0.0.1")


@contextmanager
def running_loki(directory: Path) -> Iterator[str]:
    """Run Loki until the end of the block; yield its URL."""
    # Without rules, it writes to no Prometheus.
    rules = f"-ruler.storage.local.directory={directory}"
    with _running("loki", directory, rules, *ON_A_PORT) as found:
        yield f"http://127.0.0.1:{found['LOKI_PORT']}"


@contextmanager
def running_tempo(directory: Path) -> Iterator[tuple[str, str]]:
    """Run Tempo until the end of the block; yield its URL and that for OTLP over gRPC."""
    # Tempo has no command line options for these.
    text = (ROOT / "tempo" / "tempo.yaml").read_text()
    on_a_port = directory / "on-a-port.yaml"
    on_a_port.write_text(
        text.replace("http_listen_network: unix", "http_listen_network: tcp").replace(
            "http_listen_address: tempo.sock", "http_listen_address: 127.0.0.1"
        )
    )
    with _running("tempo", directory, f"-config.file={on_a_port}") as found:
        yield f"http://127.0.0.1:{found['TEMPO_PORT']}", f"unix:{directory}/tempo-otlp.sock"


@contextmanager
def _running(name: str, directory: Path, *options: str) -> Iterator[dict[str, str]]:
    wait_for_binaries([name])
    ports = free_ports()
    found = {**facts.load(ports), "DATA_DIR": str(directory)}
    url = f"http://127.0.0.1:{found[f'{name.upper()}_PORT']}"
    command: list[Any] = [
        binary_path(name),
        f"-config.file={ROOT / name / f'{name}.yaml'}",
        "-config.expand-env=true",
        *options,
    ]
    with (
        (directory / f"{name}.log").open("w") as log,
        subprocess.Popen(
            command,
            cwd=directory,
            env={"PATH": os.defpath, **found},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
        local_client(url) as client,
    ):
        try:
            poll_until(lambda: client.get("/ready").is_success, name, PATIENCE_SECONDS, 0.1)
            yield found
        finally:
            process.kill()


def prepare(environ: Mapping[str, str]) -> None:
    """Create the secrets and the directory for sockets that the components of a stack expect."""
    wait_for_binaries(["caddy"])
    supervisor.make_private(Path(environ["SOCKETS_DIR"]))
    secrets.make(environ)


def free_ports() -> dict[str, str]:
    """Return different free ports, by the names of all the stack's ports."""
    with ExitStack() as held:
        return {
            name: str(held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])
            for name in facts.ports(facts.load({}))
        }


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
