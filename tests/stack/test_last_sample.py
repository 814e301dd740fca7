"""The dashboards' "Oldest last sample" counts a killed process, and not one that ended."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

from chatscope import names
from dashboards import queries
from stack.facts import ROOT
from stack.secrets import telemetry_variables
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack

_WORKER = """
import sys
import chatscope
chatscope.configure()
sys.stdin.read()
"""
_SILENT_SECONDS = 15.0


def _last_sample(stack: Stack, service: str) -> float:
    """Return the panel's value for a service beside the stack's own, which is alive."""
    query = queries.seconds_since_last_sample(names.PROCESS_UPTIME, names.PROCESS_ENDED)
    [sample] = stack.backends.prometheus(query.replace("$service", f"{service}|chatscope"))
    return sample.value


def _seen(stack: Stack, metric: names.Metric, service: str) -> bool:
    return bool(stack.backends.prometheus(f'{metric.prometheus}{{service_name="{service}"}}'))


def test_only_a_process_that_did_not_end_on_purpose_is_silent(stack: Stack) -> None:
    services = {"worker-ended": signal.SIGCONT, "worker-killed": signal.SIGKILL}
    for service, sent in services.items():
        environment = {
            **os.environ,
            "OTEL_SERVICE_NAME": service,
            **telemetry_variables(stack.facts),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", _WORKER], cwd=ROOT, env=environment, stdin=subprocess.PIPE
        )
        with process:
            poll_until(
                partial(_seen, stack, names.PROCESS_UPTIME, service),
                f"the metrics of {service}",
                PATIENCE_SECONDS,
            )
            process.send_signal(sent)
            # Ends at the end of its standard input.
            process.communicate(timeout=PATIENCE_SECONDS)
    poll_until(
        lambda: _seen(stack, names.PROCESS_ENDED, "worker-ended"), "its end", PATIENCE_SECONDS
    )
    assert not _seen(stack, names.PROCESS_ENDED, "worker-killed")
    time.sleep(_SILENT_SECONDS)
    assert _last_sample(stack, "worker-killed") >= _SILENT_SECONDS
    assert _last_sample(stack, "worker-ended") < _SILENT_SECONDS
