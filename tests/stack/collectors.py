"""A second Collector with the stack's configuration, for tests that would disturb the first."""

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

# Added to the ports of the stack's Collector.
BESIDE = 700
_DEBUG = "yaml:service::telemetry::logs::level: debug"
# Host metrics are reported by the stack's own Collector only.
_QUIET = "yaml:receivers::host_metrics::initial_delay: 1h"


@contextmanager
def collector(
    stack: Stack,
    directory: Path,
    environ: Mapping[str, str] | None = None,
    *,
    inside: Sequence[str] = (),
    apart: int = BESIDE,
    log: Path | None = None,
) -> Iterator[dict[str, str]]:
    """Run a Collector that sends to the stack's backends; yield the facts of its addresses.

    `directory`: of its queues; `environ`: changed variables; `inside`: a command that starts it,
    followed by its own command; `apart`: offset of its ports; `log`: a file for its debug log.
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
        *([f"--config={_DEBUG}"] if log else []),
        *re.findall(r"--feature-gates=\S+", PROCESSES.read_text()),
    ]
    environment = {
        **os.environ,
        **facts,
        "DATA_DIR": str(directory),
        # The service is checked by the stack's own Collector only.
        "OTEL_SERVICE_NAME": "beside",
        **(environ or {}),
    }
    with (
        (log or Path(os.devnull)).open("wb") as errors,
        subprocess.Popen(command, env=environment, stderr=errors) as process,
    ):
        try:
            with local_client(health) as client:
                poll_until(
                    lambda: client.get("/").is_success, "the Collector beside", PATIENCE_SECONDS
                )
            yield facts
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
