"""Several workers of one service: separate instances, with correct sums."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest

from chatscope import names
from stack.secrets import telemetry_variables
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.turns import Turn, http_turn

_NAME = "chatscope-workers"
_WORKERS = 2
_TURNS = 12


@pytest.fixture(scope="module")
def service(stack: Stack) -> Iterator[dict[str, str]]:
    port = str(int(stack.facts["APP_PORT"]) + 9)
    environment = {
        **os.environ,
        "PORT": port,
        "WORKERS": str(_WORKERS),
        "OTEL_SERVICE_NAME": _NAME,
        **telemetry_variables(stack.facts),
        "SIMULATED_TOKENS_PER_SECOND": "0",
        "SIMULATED_FIRST_TOKEN_SECONDS": "0",
    }
    facts = {**stack.facts, "APP_URL": f"http://{stack.facts['STACK_HOST']}:{port}"}
    with subprocess.Popen([sys.executable, "-m", "app"], env=environment) as process:
        try:
            poll_until(
                lambda: httpx2.get(f"{facts['APP_URL']}/readyz", trust_env=False).is_success,
                "the workers to be ready",
                PATIENCE_SECONDS,
            )
            yield facts
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0


@pytest.fixture(scope="module")
def turns(service: dict[str, str]) -> list[Turn]:
    return [http_turn(service) for _ in range(_TURNS)]


def test_tokens_of_all_workers_sum_up(stack: Stack, turns: list[Turn]) -> None:
    wanted = sum(turn.prompt_tokens + turn.completion_tokens for turn in turns)
    query = f'sum({names.LLM_TOKEN_USAGE.prometheus}{{service_name="{_NAME}"}})'

    def exactly() -> bool:
        return [sample.value for sample in stack.backends.prometheus(query)] == [wanted]

    poll_until(exactly, "the tokens of all workers in Prometheus", PATIENCE_SECONDS)


def test_each_worker_is_an_instance(stack: Stack, turns: list[Turn]) -> None:
    # Their parent is an instance too, but has no event loop.
    series = f'{names.EVENT_LOOP_LAG.prometheus}_count{{job="{_NAME}"}}'
    query = f"count(count by (instance) ({series}))"

    def instances() -> bool:
        return [s.value for s in stack.backends.prometheus(query)] == [float(_WORKERS)]

    poll_until(instances, f"{_WORKERS} instances in Prometheus", PATIENCE_SECONDS)
