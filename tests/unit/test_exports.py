"""What the service sends to a Collector, started as a user starts it."""

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator

import httpx2
import pytest
from websockets.sync.client import connect

from chatscope import names
from chatscope.names import METRICS, Metric
from stack.facts import ROOT
from tests.each import check_each
from tests.receiver import Receiver

pytestmark = pytest.mark.slow

_PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def sent() -> Iterator[Receiver]:
    """What arrives of an answer over HTTP, one over WebSocket and a refused request."""
    with Receiver() as receiver:
        environ = {
            "PATH": os.environ["PATH"],
            "PORT": "0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "SIMULATED_FIRST_TOKEN_SECONDS": "0",
            "SIMULATED_TOKENS_PER_SECOND": "0",
        }
        with subprocess.Popen(
            [sys.executable, "-m", "app"], cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                _use(_address(process))
                process.send_signal(signal.SIGTERM)
                _, said = process.communicate(timeout=_PATIENCE_SECONDS)
            finally:
                process.kill()
        assert process.returncode == 0, said
        yield receiver


def _address(process: "subprocess.Popen[str]") -> str:
    said = []
    assert process.stderr
    for line in process.stderr:
        said.append(line)
        if "Uvicorn running on " in line:
            return line.partition("Uvicorn running on http://")[2].split()[0]
    raise AssertionError("it ended early:\n" + "".join(said))


def _use(address: str) -> None:
    ask = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    with httpx2.Client(base_url=f"http://{address}", trust_env=False, timeout=30) as client:
        client.post("/v1/chat/completions", json=ask).raise_for_status()
        assert client.post("/v1/chat/completions", json={}).status_code == 400
    with connect(f"ws://{address}/ws/chat", proxy=None) as socket:
        socket.send(json.dumps({"type": "message", "content": "hi"}))
        while json.loads(socket.recv(timeout=_PATIENCE_SECONDS))["type"] != "done":
            pass


# Recorded only for what fails, or for a model that is asked over the network.
_CONDITIONAL = {names.ERROR_TYPE, names.SERVER_ADDRESS, names.SERVER_PORT}


def test_every_metric_arrives_with_the_attributes_of_the_registry(sent: Receiver) -> None:
    arrived: dict[str, set[str]] = defaultdict(set)
    for point in sent.metric_points:
        arrived[point.name] |= set(point.attributes)
    of_a_chat_service = set(METRICS) - names.OF_RECORDERS - names.OF_KEYS - names.OF_REPLICAS
    assert set(arrived) == {metric.name for metric in of_a_chat_service}

    def check(metric: Metric) -> None:
        assert set(metric.attributes) - _CONDITIONAL <= arrived[metric.name]
        assert arrived[metric.name] <= set(metric.attributes)

    check_each({metric.name: metric for metric in of_a_chat_service}, check)


def test_its_own_losses_are_counted_from_zero(sent: Receiver) -> None:
    """A counter that appears with its first loss shows no increase."""
    for name in (names.SPANS_PROCESSED.name, names.LOGS_PROCESSED.name):
        assert set(sent.last(name, error__type="queue_full").values()) == {0.0}
    [exported] = sent.last(names.SPANS_EXPORTED.name).values()
    assert exported > 0


def test_spans_and_log_records_of_an_answer_share_its_trace(sent: Receiver) -> None:
    answers = [span for span in sent.spans if span.name == "chat simulated-1"]
    assert len(answers) == 2
    spans = {span.name for span in sent.spans if span.trace_id == answers[0].trace_id}
    assert spans >= {"POST /v1/chat/completions", "validate"}
    for answer in answers:
        bodies = [log.body for log in sent.log_records if log.trace_id == answer.trace_id]
        assert "answer completed" in bodies


def test_log_records_of_the_server_and_of_a_refused_request_arrive(sent: Receiver) -> None:
    bodies = {log.body for log in sent.log_records}
    assert bodies >= {"Application startup complete.", "request refused", "shutting down"}
