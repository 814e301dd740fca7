"""The installed package with the stack: programs outside this checkout."""

import shutil
import time
import urllib.request
from collections.abc import Mapping

import pytest

from chatscope import names
from chatscope.names import HTTP_REQUEST_DURATION
from stack.backends import LogLine
from stack.facts import ROOT
from stack.secrets import telemetry_variables
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.unit.package.environment import (
    Environment,
    free_port,
    shared_environment,
    stop,
    wait_until_up,
)
from tests.unit.package.programs import SERVICE, run_orders, write_script

_COUNT = 20
_ROUTE = "/items/{item_id}"
_STREAM = f'{{service_name="{SERVICE}"}}'


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return shared_environment(tmp_path_factory)


def _series(metric: str, labels: Mapping[str, str] | None = None) -> str:
    matchers = {"service_name": SERVICE, **(labels or {})}
    conditions = (f'{names.prometheus_label(name)}="{text}"' for name, text in matchers.items())
    return f"{metric}{{{','.join(conditions)}}}"


def _wait_for_count(stack: Stack, series: str, count: float) -> None:
    poll_until(
        lambda: stack.counted(series) == count, f"{series} to be {count:g}", PATIENCE_SECONDS
    )


def _wait_for_lines(stack: Stack, text: str, since: float, count: int) -> list[LogLine]:
    """Return the log lines that contain `text`, when `count` have arrived."""

    def found() -> list[LogLine]:
        lines = stack.backends.loki(f'{_STREAM} |= "{text}"', start=since)
        return lines if len(lines) >= count else []

    lines = poll_until(found, f"{count} log lines {text!r}", PATIENCE_SECONDS)
    assert len(lines) == count
    return lines


def _wait_for_span(stack: Stack, trace_id: str, name: str) -> None:
    def found() -> bool:
        spans = stack.backends.tempo_trace(trace_id) or []
        return [(span.name, span.resource["service.name"]) for span in spans] == [(name, SERVICE)]

    poll_until(found, f"the trace {trace_id} of one span {name}", PATIENCE_SECONDS)


def _trace_of_a_request(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/items/42", timeout=30) as response:
        assert response.status == 200
        return str(response.headers["x-trace-id"])


def test_application_of_twenty_lines_is_in_three_backends(
    stack: Stack, environment: Environment
) -> None:
    source = ROOT / "examples" / "fastapi" / "shop.py"
    shutil.copy(source, environment.folder)
    requests = _series(f"{HTTP_REQUEST_DURATION.prometheus}_count", {names.HTTP_ROUTE: _ROUTE})
    before, since, port = stack.counted(requests), time.time(), free_port()
    with environment.running(
        stack.facts["OTLP_URL"], "gunicorn", "shop:app", "-w", "2",
        *("-k", "uvicorn_worker.UvicornWorker", "-b", f"127.0.0.1:{port}", "--no-control-socket"),
        **telemetry_variables(stack.facts),
    ) as process:  # fmt: skip
        wait_until_up(port)
        traces = {_trace_of_a_request(port) for _ in range(_COUNT)}
        output = stop(process)
    assert len(traces) == _COUNT
    # Its own log sink has each record once.
    assert output.count("item shown") == _COUNT, output
    _wait_for_count(stack, requests, before + _COUNT)
    lines = _wait_for_lines(stack, "item shown", since, _COUNT)
    assert {line.metadata["trace_id"] for line in lines} == traces
    for trace in traces:
        _wait_for_span(stack, trace, f"GET {_ROUTE}")


def test_celery_worker_is_in_three_backends(stack: Stack, environment: Environment) -> None:
    orders = _series("orders_total")
    before, since = stack.counted(orders), time.time()
    variables = telemetry_variables(stack.facts)
    output = run_orders(environment, stack.facts["OTLP_URL"], _COUNT, **variables)
    _wait_for_count(stack, orders, before + _COUNT)
    lines = _wait_for_lines(stack, "order ", since, _COUNT)
    assert {line.line for line in lines} == {f"order {number}" for number in range(_COUNT)}, output
    for line in lines:
        _wait_for_span(stack, line.metadata["trace_id"], "order")


def test_script_is_in_three_backends(stack: Stack, environment: Environment) -> None:
    script, done = write_script(environment), _series("work_done_total")
    before, since = stack.counted(done), time.time()
    variables = telemetry_variables(stack.facts)
    with environment.running(stack.facts["OTLP_URL"], "python", script, **variables) as process:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    _wait_for_count(stack, done, before + 1)
    [line] = _wait_for_lines(stack, "working", since, 1)
    _wait_for_span(stack, line.metadata["trace_id"], "work")
