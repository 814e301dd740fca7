"""A Collector beside the stack's, of the same configuration, for what the stack's is spared."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from stack.facts import shifted
from stack.local_http import local_client
from stack.parts import binary_path
from stack.waiting import poll_until
from tests.config.files import COLLECTOR, PROCESSES
from tests.running import PATIENCE_SECONDS, Stack

# Of its ports from those of the stack's.
BESIDE = 700
# The machine is the stack's own Collector's to tell of.
_QUIET = "yaml:receivers::host_metrics::initial_delay: 1h"


@contextmanager
def collector(
    stack: Stack,
    directory: Path,
    environ: Mapping[str, str] | None = None,
    *,
    inside: Sequence[str] = (),
    apart: int = BESIDE,
) -> Iterator[dict[str, str]]:
    """It sends to the stack's stores; the facts by which it is reached.

    `directory`: where it keeps what waits; `environ`: what it finds changed; `inside`: a command
    that starts it, given its own command; `apart`: its ports from those of the stack.
    """
    facts = {**stack.facts, **shifted(apart, stack.facts)}
    facts["OTLP_URL"] = f"http://{facts['STACK_HOST']}:{facts['OTLP_GRPC_PORT']}"
    facts["COLLECTOR_METRICS_URL"] = (
        f"http://{facts['STACK_HOST']}:{facts['COLLECTOR_METRICS_PORT']}/metrics"
    )
    health = f"http://{facts['STACK_HOST']}:{facts['COLLECTOR_HEALTH_PORT']}"
    command = [
        *inside,
        str(binary_path("otelcol")),
        f"--config={COLLECTOR}",
        f"--config={_QUIET}",
        *re.findall(r"--feature-gates=\S+", PROCESSES.read_text()),
    ]
    environment = {
        **os.environ,
        **facts,
        "DATA_DIR": str(directory),
        # The service is the stack's own Collector's to ask, too.
        "OTEL_SERVICE_NAME": "beside",
        **(environ or {}),
    }
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            with local_client(health) as client:
                poll_until(
                    lambda: client.get("/").is_success, "the Collector beside", PATIENCE_SECONDS
                )
            yield facts
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
