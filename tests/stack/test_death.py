"""A service is killed: the shipped rules report it, and its return, in time."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.settings import SIMULATED_MODEL
from chatscope import names
from dashboards import others
from demo.clients import Conversation
from stack.facts import ROOT
from stack.local_http import local_client
from stack.secrets import backend_client, telemetry_variables
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.collectors import collector

# The failed check, the rule's `for` and its next evaluation: 5 s, 30 s and 10 s. Twice as much is
# allowed on a busy machine.
_DOWN_SECONDS = 2 * 45.0
_FOR_SECONDS = 30
# How long Prometheus shows a series after its last sample (--query.lookback-delta), and a margin.
_SHOWN_SECONDS = 95
_VICTIM = "victim"
_IS_VICTIM = f'{names.prometheus_label(others.SERVICE_NAME)}="{_VICTIM}"'
_SOCKETS = f"{names.SOCKET_CONNECTIONS.prometheus}{{{_IS_VICTIM}}}"


@contextmanager
def _service(address: str, beside: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    environment = {
        **os.environ,
        "PORT": address.rpartition(":")[2],
        "OTEL_SERVICE_NAME": _VICTIM,
        **telemetry_variables(beside),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "app"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            with local_client(f"http://{address}") as client:
                poll_until(
                    lambda: client.get("/readyz").is_success, "the service", PATIENCE_SECONDS
                )
            yield process
        finally:
            process.kill()


def _firing(stack: Stack) -> set[str]:
    return _alerts(stack, ', alertstate="firing"')


def _alerts(stack: Stack, state: str = "") -> set[str]:
    """Return the names of alerts that fire or are pending."""
    found = stack.backends.prometheus(f"ALERTS{{{_IS_VICTIM}{state}}}")
    return {sample.labels["alertname"] for sample in found}


def _is_seen(stack: Stack) -> bool:
    """Return whether Prometheus has its readiness and its metrics."""
    ready = stack.backends.prometheus(f"{others.CHECKED.prometheus}{{{_IS_VICTIM}}} == 1")
    return bool(ready and stack.backends.prometheus(_SOCKETS))


def _shown(stack: Stack, after: float) -> bool:
    """Return whether its sockets would be visible so long from now, with the current samples."""
    with backend_client(stack.facts, "PROMETHEUS_URL") as client:
        asked = {"query": _SOCKETS, "time": str(time.time() + after)}
        answer = client.get("/api/v1/query", params=asked).raise_for_status().json()
    return bool(answer["data"]["result"])


@pytest.mark.one_machine("a Collector beside it would write to Prometheus")
def test_killed_service_is_reported_down_in_time_and_its_return_too(
    stack: Stack, tmp_path: Path
) -> None:
    """The alert that it is silent, which takes longer, is a case of the drill."""
    host = stack.facts["STACK_HOST"]
    with socket.create_server((host, 0)) as free:
        address = f"{host}:{free.getsockname()[1]}"
    asking = {"APP_URL": f"http://{address}", "OTEL_SERVICE_NAME": _VICTIM}
    with collector(stack, tmp_path, asking) as beside:
        with _service(address, beside) as process:
            # Its socket is closed with it.
            with Conversation(f"http://{address}") as conversation:
                conversation.ask("Are you there?", SIMULATED_MODEL)
                poll_until(lambda: _is_seen(stack), "the service to be seen", PATIENCE_SECONDS)
                # It was not ready while it started, and that time counts for the alert until the
                # rule's next evaluation.
                poll_until(lambda: not _alerts(stack), "no alert", PATIENCE_SECONDS)
                assert _shown(stack, after=0)
                os.kill(process.pid, signal.SIGKILL)
            poll_until(lambda: "ServiceDown" in _firing(stack), "the alert", _DOWN_SECONDS)
        # No component repeats its last values: they are older than the alert's `for`.
        assert not _shown(stack, after=_SHOWN_SECONDS - _FOR_SECONDS)
        with _service(address, beside):
            poll_until(
                lambda: "ServiceDown" not in _firing(stack),
                "the alert to be resolved",
                PATIENCE_SECONDS,
            )
