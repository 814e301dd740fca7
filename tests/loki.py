"""A Loki of a test's own, with the configuration of the stack, on free ports."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack import facts
from stack.facts import ROOT
from stack.local_http import local_client
from stack.parts import binary_path
from stack.waiting import poll_until
from tests.builds import wait_for_binaries
from tests.running import PATIENCE_SECONDS


@contextmanager
def running_loki(directory: Path, **settings: str) -> Iterator[str]:
    """Run until the end of the block; give its URL."""
    wait_for_binaries(["loki"])
    ports = {name: str(free_port()) for name in ("LOKI_PORT", "LOKI_GRPC_PORT")}
    # Without rules it writes to no Prometheus.
    env = {**facts.load(), **ports, "DATA_DIR": str(directory), **settings}
    url = f"http://127.0.0.1:{ports['LOKI_PORT']}"
    with (
        (directory / "loki.log").open("w") as log,
        subprocess.Popen(
            [
                binary_path("loki"),
                f"-config.file={ROOT / 'loki' / 'loki.yaml'}",
                "-config.expand-env=true",
                f"-ruler.storage.local.directory={directory}",
            ],
            cwd=directory,
            env={"PATH": os.defpath, **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
        local_client(url) as client,
    ):
        try:
            poll_until(
                lambda: client.get("/ready").status_code == 200, "Loki", PATIENCE_SECONDS, 0.1
            )
            yield url
        finally:
            process.kill()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
