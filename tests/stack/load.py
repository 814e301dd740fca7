"""A short load that covers every case: all kinds of users, and a faulty service."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle

from dashboards.others import DAY_COST, GRAPH_EDGES_EXPIRED, LEDGER_STORED, SLO_LEFT
from demo.clients import Conversation, HttpClient, Message, RequestError
from stack.facts import ROOT
from stack.local_http import local_client
from stack.secrets import backend_client, telemetry_variables
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS
from tests.stack.filling import Window
from tests.unit.conformance import endpoint

_BOUNDS = {
    "DEMO_PACE": "20",
    "DEMO_SPAWN_RATE": "100",
    "DEMO_SECONDS": "60",
    "DEMO_QUESTIONS": "120",
}
_SIMULATED = "simulated-1"
# A model with a price.
_ELSEWHERE = "gpt-4o-mini"
_MOST_ANSWERS = 4
_MOST_BYTES = 4096
_TROUBLES = {
    "SIMULATED_ERROR_RATE": "0.4",
    "SIMULATED_STALL_RATE": "0.4",
    "SIMULATED_STALL_SECONDS": "1",
    "SIMULATED_ANSWER_TOKENS": "20",
    "MAX_ANSWERS": str(_MOST_ANSWERS),
    "MAX_BODY_BYTES": str(_MOST_BYTES),
    "OPENAI_MODELS": _ELSEWHERE,
    "OPENAI_API_KEY": "none",
    "OPENAI_MAX_RETRIES": "1",
}
# A series shows its increase from its second point on; the slowest ones, those of spans, get a
# point every 5 s.
_WAVES = 3
_BETWEEN_SECONDS = 3.0
# The slowest effect of the load: an edge of the service graph waits for its other half for 10 s,
# then for the next flush.
_ARRIVAL_SECONDS = 16.0
# Two scrapes of the counts of dropped items, 15 s apart, make a rate, which a panel shows at its
# next point, after the same time again.
_SCRAPES = 3
# User and conversation of rated responses.
_RATED = (("ada", "rated-first"), ("grace", "rated-second"))
# Delay of the recording rules: for the objectives three steps of 30 s at most, and a minute for
# daily cost and stored items; plus the next point of a panel.
_MADE = (
    f"count({SLO_LEFT.prometheus} offset 20s) >= 3",
    f"{DAY_COST.prometheus} offset 20s",
    f"count({LEDGER_STORED.prometheus} offset 20s) >= 3",
)
_KNOWN_SECONDS = 180.0


@dataclass(frozen=True)
class Load:
    """A completed load: start, end, and the number of responses by code."""

    started: float
    ended: float
    codes: Counter[str]


@contextmanager
def load(facts: Mapping[str, str]) -> Iterator[Load]:
    """Send all requests; the faulty service runs until the end of the block."""
    started = time.time()
    with (
        _endpoint() as elsewhere,
        service(facts, {**_TROUBLES, "OPENAI_BASE_URL": elsewhere}) as url,
    ):
        people = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=ROOT,
            env={
                **os.environ,
                **_BOUNDS,
                "CHATSCOPE_URL": facts["APP_URL"],
                **telemetry_variables(facts, "OTLP_HTTP_URL"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with people:
            codes: Counter[str] = Counter()
            for wave in range(_WAVES):
                time.sleep(_BETWEEN_SECONDS if wave else 0)
                codes.update(_wave(url))
            _rate(facts["APP_URL"])
            output, _ = people.communicate(timeout=2 * float(_BOUNDS["DEMO_SECONDS"]))
        assert people.returncode == 0, output
        yield Load(started, time.time(), codes)


def window(facts: Mapping[str, str], load: Load) -> Window:
    """Return the time range of the load until now, after waiting for the recording rules."""
    time.sleep(max(0.0, load.ended + _ARRIVAL_SECONDS - time.time()))
    known = partial(_known, facts, load.started)
    poll_until(known, "the load in the sums of the rules", _KNOWN_SECONDS)
    return Window(load.started, time.time())


def _known(facts: Mapping[str, str], since: float) -> bool:
    times = f"count_over_time({GRAPH_EDGES_EXPIRED.prometheus}[{time.time() - since:.0f}s])"
    with backend_client(facts, "PROMETHEUS_URL") as client:
        asked = [
            client.get("/api/v1/query", params={"query": query}).raise_for_status().json()
            for query in (f"min({times}) >= {_SCRAPES}", *_MADE)
        ]
    return all(answer["data"]["result"] for answer in asked)


def _wave(url: str) -> Counter[str]:
    """Send requests by each transport, more than are accepted; return the number by code."""
    client = HttpClient(url)
    question: list[Message] = [{"role": "user", "content": "What can you see of an answer?"}]
    large: list[Message] = [{"role": "user", "content": "word " * _MOST_BYTES}]
    asked: list[Callable[[], object]] = [
        *[partial(client.ask, question, _SIMULATED)] * 4,
        *[partial(client.stream, question, _SIMULATED)] * 6,
        *[partial(_talk, url)] * 2,
        *[partial(client.stream, question, _ELSEWHERE)] * 3,
        partial(client.ask, large, _SIMULATED),
    ]
    with ThreadPoolExecutor(_MOST_ANSWERS) as people:
        codes = Counter(people.map(_code, asked))
    with ThreadPoolExecutor(_MOST_ANSWERS + 2) as crowd:
        codes.update(crowd.map(_code, asked[: _MOST_ANSWERS + 2]))
    client.close()
    return codes


def _rate(url: str) -> None:
    """Rate responses to several users as bad."""
    with local_client(url, timeout=PATIENCE_SECONDS) as client:
        for user, conversation in _RATED:
            answer = client.post(
                "/v1/chat/completions",
                headers={"x-user-id": user, "x-conversation-id": conversation},
                json={"messages": [{"role": "user", "content": "Is this good?"}]},
            )
            rating = {"trace_id": answer.raise_for_status().headers["x-trace-id"], "label": "bad"}
            rated = client.post("/v1/feedback", json=rating)
            assert rated.raise_for_status().json()["known"]


def _code(ask: Callable[[], object]) -> str:
    try:
        ask()
    except RequestError as error:
        return error.code
    return ""


def _talk(url: str) -> None:
    with Conversation(url) as conversation:
        conversation.ask("What can you see of an answer?", _SIMULATED)


@contextmanager
def service(facts: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[str]:
    """Run a separate service that sends to the stack; yield its URL."""
    with socket.create_server((facts["STACK_HOST"], 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        **variables,
        "PORT": str(port),
        **telemetry_variables(facts),
    }
    url = f"http://{facts['STACK_HOST']}:{port}"
    with (
        subprocess.Popen(
            [sys.executable, "-m", "app"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
        ) as process,
        local_client(url) as client,
    ):
        try:
            poll_until(
                lambda: client.get("/readyz").is_success,
                "the service to be ready",
                PATIENCE_SECONDS,
            )
            yield url
        finally:
            process.terminate()


@contextmanager
def _endpoint() -> Iterator[str]:
    """Run a provider that rejects every second request; every third of the others is empty."""
    turns = cycle(("refusal", "answer", "refusal", "answer", "refusal", "empty"))

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            turn = next(turns)
            self.send_response(429 if turn == "refusal" else 200)
            self.send_header("retry-after", "0")
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            if turn != "refusal":
                self.wfile.write(_answer("" if turn == "empty" else "Seen from elsewhere."))

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def _answer(text: str) -> bytes:
    events = [endpoint.text(f"{word} ") for word in text.split()]
    events += [endpoint.end(), endpoint.usage(8, len(events)), "[DONE]"]
    return "".join(f"data: {event}\n\n" for event in events).encode()
