"""The durations that docs/settings.md and docs/api.md promise, each set to at most a second."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.elapsed import assert_elapsed, takes
from tests.hostile.outcome import ends
from tests.hostile.provider import CHUNKED, HELLO, Provider, provider, raw
from tests.hostile.service import Service, started

_IDLE_SECONDS = 0.8
_GRACE_SECONDS = 0.8
_RECEIVE_SECONDS = 0.6
_FIRST_TOKEN_SECONDS = 0.3
_TOKENS_PER_SECOND = 20
_SIMULATED_STALL_SECONDS = 0.6
_SILENCE_SECONDS = 0.5
# Long enough that a loaded machine does not reach it first.
_STALL_SECONDS = 3.0
_CONNECT_SECONDS = 0.5
# Longer than any test.
_LONG = "60"


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A simulated model with pauses of every kind."""
    with started(
        tmp_path_factory.mktemp("paced"),
        SOCKET_IDLE_SECONDS=str(_IDLE_SECONDS),
        RECEIVE_TIMEOUT_SECONDS=str(_RECEIVE_SECONDS),
        SIMULATED_FIRST_TOKEN_SECONDS=str(_FIRST_TOKEN_SECONDS),
        SIMULATED_TOKENS_PER_SECOND=str(_TOKENS_PER_SECOND),
        SIMULATED_ANSWER_TOKENS="10",
        SIMULATED_STALL_RATE="1",
        SIMULATED_STALL_SECONDS=str(_SIMULATED_STALL_SECONDS),
    ) as service:
        yield service


def test_simulated_model_keeps_its_pace(paced: Service) -> None:
    with _connected(paced) as client:
        begun = time.monotonic()
        client.send('{"type":"message","content":"hi"}')
        arrived = []
        while (message := json.loads(client.recv(10)))["type"] == "delta":
            arrived.append(time.monotonic() - begun)
        assert message["type"] == "done"
    tokens = len(arrived)
    assert tokens == message["usage"]["completion_tokens"] > 1
    assert arrived[0] >= _FIRST_TOKEN_SECONDS
    pauses = [later - earlier for earlier, later in zip([0.0, *arrived], arrived, strict=False)]
    assert_elapsed(max(pauses), _SIMULATED_STALL_SECONDS)
    whole = _FIRST_TOKEN_SECONDS + (tokens - 1) / _TOKENS_PER_SECOND + _SIMULATED_STALL_SECONDS
    assert_elapsed(arrived[-1], whole)


def test_silent_connection_is_closed_after_the_idle_time(paced: Service) -> None:
    with _connected(paced) as client:
        time.sleep(_IDLE_SECONDS * 0.6)
        client.send('{"type":"ping"}')
        assert json.loads(client.recv(10)) == {"type": "pong"}
        with takes(_IDLE_SECONDS), pytest.raises(ConnectionClosed) as caught:
            client.recv(10)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1000


def test_head_and_body_have_the_whole_time_each(paced: Service) -> None:
    """Together they exceed the limit, but none of them alone."""
    body = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":1}'
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    with paced.connect() as client:
        for part in (head[:-2], head[-2:], body):
            client.sendall(part)
            time.sleep(0.0 if part is body else _RECEIVE_SECONDS * 0.6)
        assert client.recv(12) == b"HTTP/1.1 200"


def test_response_is_cut_when_the_grace_is_over(tmp_path: Path) -> None:
    with (
        started(
            tmp_path,
            SHUTDOWN_GRACE_SECONDS=str(_GRACE_SECONDS),
            SIMULATED_TOKENS_PER_SECOND="20",
            SIMULATED_ANSWER_TOKENS="400",
        ) as service,
        _connected(service) as client,
    ):
        client.send('{"type":"message","content":"hi"}')
        assert json.loads(client.recv(10))["type"] == "delta"
        with takes(_GRACE_SECONDS):
            service.process.send_signal(signal.SIGTERM)
            while (message := json.loads(client.recv(10)))["type"] == "delta":
                pass
        assert message["error"]["code"] == "shutting_down"
        ends(service, signal.SIGCONT)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Provider]:
    behaviours = {
        "before-its-answer": raw(b"", hang=True),
        "amid-its-answer": raw(CHUNKED + b"%x\r\n%s\r\n" % (len(HELLO), HELLO), hang=True),
    }
    with provider(behaviours) as one:
        yield one


@pytest.fixture(scope="module")
def silent(upstream: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Models that are silent for longer than any limit."""
    with started(
        tmp_path_factory.mktemp("silent"),
        **upstream.environ,  # without retries
        OPENAI_TIMEOUT_SECONDS=str(_SILENCE_SECONDS),
        ANSWER_STALL_SECONDS=str(_STALL_SECONDS),
        SIMULATED_FIRST_TOKEN_SECONDS=_LONG,
    ) as service:
        yield service


@pytest.mark.parametrize(
    ("model", "stream", "seconds", "code"),
    [
        ("before-its-answer", True, _SILENCE_SECONDS, "timeout"),
        # An endpoint sends nothing of a whole response until it is complete.
        ("before-its-answer", False, 10 * _SILENCE_SECONDS, "timeout"),
        ("amid-its-answer", False, _SILENCE_SECONDS, "timeout"),
        ("simulated-1", True, _STALL_SECONDS, "stalled"),
    ],
)
def test_silent_model_fails_in_time(
    silent: Service, model: str, stream: bool, seconds: float, code: str
) -> None:
    with takes(seconds):
        answer = silent.chat(_question(model, stream=stream))
    assert answer.status == 504
    assert json.loads(answer.body)["error"]["code"] == code


def test_endpoint_that_accepts_no_connection_fails_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as others:
        port = listener.getsockname()[1]
        # Once the backlog is full, further handshakes get no answer.
        for _ in range(3):
            waiting = others.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with started(
            tmp_path,
            OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1",
            OPENAI_MODELS="full",
            OPENAI_CONNECT_TIMEOUT_SECONDS=str(_CONNECT_SECONDS),
            OPENAI_TIMEOUT_SECONDS=_LONG,
            OPENAI_MAX_RETRIES="0",
        ) as service:
            with takes(_CONNECT_SECONDS):
                answer = service.chat(_question("full"))
            assert answer.status == 503
            assert json.loads(answer.body)["error"]["code"] == "connection"


def _connected(service: Service) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{service.port}/ws/chat", proxy=None)


def _question(model: str, *, stream: bool = False) -> str:
    messages = [{"role": "user", "content": "hi"}]
    return json.dumps({"model": model, "messages": messages, "stream": stream})
