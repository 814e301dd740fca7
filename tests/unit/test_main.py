"""`python -m app` as a process: how it starts, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psutil
import pytest
from websockets.sync.client import connect

from tests.elapsed import takes_at_most
from tests.ending import assert_ended_in_time
from tests.receiver import Receiver
from tests.unit.process import PATIENCE_SECONDS as _PATIENCE_SECONDS
from tests.unit.process import printed as _told
from tests.unit.process import process as _process
from tests.unit.process import served as _served
from tests.unit.process import until as _until

pytestmark = pytest.mark.slow

_GRACE_SECONDS = "1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_ends_with_0_when_it_is_told_to(number: signal.Signals) -> None:
    with _process() as process:
        url = _served(process)
        with _client(url) as client:
            assert client.get("/readyz").status_code == 200
            messages = [{"role": "user", "content": "hi"}]
            ask = {"messages": messages, "max_tokens": 2}
            answer = client.post("/v1/chat/completions", json=ask).json()
        assert answer["choices"][0]["message"]["content"].startswith("(simulated) ")
        process.send_signal(number)
        assert process.wait(_PATIENCE_SECONDS) == 0


def test_models_without_a_price_are_listed_at_startup() -> None:
    models = {"OPENAI_MODELS": "gpt-4o-2024-08-06,our-llama", "OPENAI_API_KEY": "x"}
    with _process(**models) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Uvicorn running on " in line:
                break
    [warning] = [line for line in lines if "without a price" in line]
    assert "our-llama" in warning
    assert "gpt-4o" not in warning
    assert "simulated" not in warning


def test_an_answer_on_its_way_comes_to_its_end_before_the_process_does() -> None:
    with _process(SIMULATED_TOKENS_PER_SECOND="5") as process:
        url = _served(process)
        ask = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 3}
        with (
            _client(url) as client,
            client.stream("POST", "/v1/chat/completions", json=ask) as response,
        ):
            lines = response.iter_lines()
            first = json.loads(next(lines).removeprefix("data: "))
            process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert first["object"] == "chat.completion.chunk"
        assert "data: [DONE]" in rest
        assert process.wait(_PATIENCE_SECONDS) == 0


@contextmanager
def _hung_collector() -> Iterator[str]:
    """A Collector that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _gone_collector() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _client(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, trust_env=False, timeout=_PATIENCE_SECONDS)


def _ask(url: str, **more: Any) -> httpx2.Response:
    ask = {"messages": [{"role": "user", "content": "hi"}], **more}
    return httpx2.post(
        f"{url}/v1/chat/completions", json=ask, trust_env=False, timeout=_PATIENCE_SECONDS
    )


def test_an_answer_that_takes_too_long_is_cut_recorded_and_told() -> None:
    with (
        Receiver() as receiver,
        _process(
            OTEL_SDK_DISABLED="false",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            SHUTDOWN_GRACE_SECONDS="0",
            SIMULATED_STALL_RATE="1",
            SIMULATED_STALL_SECONDS="3600",
        ) as process,
    ):
        url = _served(process)
        with _told(process) as lines, _client(url) as client:
            ask = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            with client.stream("POST", "/v1/chat/completions", json=ask) as response:
                chunks = response.iter_lines()
                next(chunks)
                with connect(url.replace("http", "ws") + "/ws/chat", proxy=None) as chat:
                    chat.send('{"type":"message","content":"hi"}')
                    assert json.loads(chat.recv(_PATIENCE_SECONDS))["type"] == "delta"
                    process.send_signal(signal.SIGTERM)
                    told = [json.loads(message) for message in chat]
                    assert chat.close_code == 1001
                rest = [line for line in chunks if line]
            assert process.wait(_PATIENCE_SECONDS) == 0
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert told[-1]["error"]["code"] == "shutting_down"
    spans = [span for span in receiver.spans if span.name == "chat simulated-1"]
    assert [span.attributes["error.type"] for span in spans] == ["shutting_down"] * 2
    assert sum(receiver.last("llm_response_time", error__type="shutting_down").values()) == 2
    answers = [log for log in receiver.log_records if log.body.startswith("answer ")]
    assert len([log for log in answers if "error.type" in log.attributes]) == 2
    assert not [line for line in lines if "Traceback" in line]


def _ends_in_time(process: subprocess.Popen[str]) -> bool:
    """Stop it; return whether its end was orderly."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(_PATIENCE_SECONDS)
    return assert_ended_in_time(code, time.monotonic() - began, float(_GRACE_SECONDS))


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_collector_that_hangs_does_not_keep_the_process(arguments: tuple[str, ...]) -> None:
    with (
        _hung_collector() as collector,
        _process(
            *arguments,
            OTEL_SDK_DISABLED="false",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector,
            SHUTDOWN_GRACE_SECONDS=_GRACE_SECONDS,
        ) as process,
    ):
        url = _served(process)
        with _told(process) as lines:
            assert _ask(url, max_tokens=2).status_code == 200
            orderly = _ends_in_time(process)
    lost = "lost at shutdown: the receiver did not accept them"
    assert any(lost in line for line in lines) or not orderly


def test_a_collector_that_is_gone_does_not_keep_the_process() -> None:
    with _process(
        OTEL_SDK_DISABLED="false",
        OTEL_EXPORTER_OTLP_ENDPOINT=_gone_collector(),
        SHUTDOWN_GRACE_SECONDS=_GRACE_SECONDS,
    ) as process:
        url = _served(process)
        with _told(process) as lines:
            assert _ask(url, max_tokens=2).status_code == 200
            orderly = _ends_in_time(process)
    lost = "lost at shutdown: the receiver did not accept them"
    assert any(lost in line for line in lines) or not orderly


@pytest.mark.parametrize(
    ("arguments", "idle"), [((), 0), (("--workers", "2"), 1)], ids=["alone", "workers"]
)
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    arguments: tuple[str, ...], idle: int, second: signal.Signals
) -> None:
    an_hour = {"SHUTDOWN_GRACE_SECONDS": "3600", "SIMULATED_STALL_SECONDS": "3600"}
    with _process(*arguments, SIMULATED_STALL_RATE="1", **an_hour) as process:
        url = _served(process)
        with _told(process) as lines, _client(url) as client:
            ask = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            with client.stream("POST", "/v1/chat/completions", json=ask) as response:
                chunks = response.iter_lines()
                next(chunks)
                process.send_signal(signal.SIGTERM)
                _until(lambda: any("shutting down answers=1" in line for line in lines))
                with takes_at_most(1.0):
                    process.send_signal(second)
                    assert process.wait(_PATIENCE_SECONDS) == 128 + second
    # Its workers with it: else their ends of the pipe would keep it open. A worker that has
    # nothing to answer may finish of itself between the two signals; the other never does.
    assert sum("Finished server process" in line for line in lines) <= idle


def test_workers_have_instance_ids_of_their_own_and_their_numbers_add_up() -> None:
    with (
        Receiver() as receiver,
        _process(
            "--workers",
            "2",
            OTEL_SDK_DISABLED="false",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_RESOURCE_ATTRIBUTES="service.instance.id=pod-7",
            SIMULATED_FIRST_TOKEN_SECONDS="0",
            SIMULATED_TOKENS_PER_SECOND="0",
        ) as process,
    ):
        url = _served(process)
        with _told(process):
            tokens = sum(_ask(url).json()["usage"]["completion_tokens"] for _ in range(20))
            process.send_signal(signal.SIGTERM)
            assert process.wait(_PATIENCE_SECONDS) == 0
    workers = {"pod-7-worker-0", "pod-7-worker-1"}
    assert receiver.last("chatscope.limit.value").keys() == workers
    assert sum(receiver.last("message_count", role="user").values()) == 20
    assert sum(receiver.last("llm_token_usage", type="completion").values()) == tokens
    chats = [span for span in receiver.spans if span.name == "chat simulated-1"]
    assert len({span.trace_id for span in chats}) == len(chats) == 20
    assert {span.resource["service.instance.id"] for span in chats} <= workers
    started = [log for log in receiver.log_records if log.body == "workers started"]
    assert [log.resource["service.instance.id"] for log in started] == ["pod-7"]


def test_a_worker_that_dies_is_replaced() -> None:
    with _process("--workers", "2") as process:
        url = _served(process)
        with _told(process) as lines:
            _until(lambda: _count(lines, "Application startup complete") == 2)
            os.kill(_workers(process)[0], signal.SIGKILL)
            _until(lambda: _count(lines, "is restarted") == 1)
            _until(lambda: _count(lines, "Application startup complete") == 3)
            assert _ask(url, max_tokens=2).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(_PATIENCE_SECONDS) == 0


def test_workers_end_with_their_parent() -> None:
    with _process("--workers", "2") as process:
        _served(process)
        with _told(process) as lines:
            _until(lambda: _count(lines, "Application startup complete") == 2)
            process.kill()
            _until(lambda: _count(lines, "Finished server process") == 2)


@pytest.mark.parametrize("arguments", [("--workers", "0"), ("--workers", "many")])
def test_a_wrong_number_of_workers_is_a_wrong_setting(arguments: tuple[str, ...]) -> None:
    with _process(*arguments) as process:
        _, told = process.communicate(timeout=_PATIENCE_SECONDS)
        assert process.returncode == 2
    assert f"WORKERS={arguments[1]} is not accepted: give a whole number from 1 to 256" in told


def _count(lines: list[str], text: str) -> int:
    return sum(text in line for line in lines)


def _workers(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of its workers, not of the interpreter's helper among them."""
    return [
        child.pid
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]


def test_wrong_settings_are_all_told_and_end_with_2() -> None:
    with _process(PORT="x", FRONTEND_URL="*", OPENAI_API_KEY="sk -secret") as process:
        _, told = process.communicate(timeout=_PATIENCE_SECONDS)
        assert process.returncode == 2
    for problem in ("PORT=x is not accepted", "FRONTEND_URL=* is not", "OPENAI_API_KEY=***"):
        assert problem in told
    assert "secret" not in told


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_taken_port_is_told_and_is_a_failed_start(arguments: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _process(*arguments, PORT=str(port)) as process:
            _, told = process.communicate(timeout=_PATIENCE_SECONDS)
            assert process.returncode == 1
    assert told.lower().count("address already in use") == 1
    assert "Traceback" not in told
