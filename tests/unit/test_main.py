"""`python -m app` as a process: how it starts, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

_ROOT = Path(__file__).parents[2]
_PATIENCE_SECONDS = 30


@contextmanager
def _process(**environ: str) -> Iterator[subprocess.Popen[str]]:
    nowhere = {"OTEL_SDK_DISABLED": "true", "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=_ROOT,
        env={**nowhere, **environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _served(process: subprocess.Popen[str]) -> str:
    """Its base URL, once it says that it is there."""
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if "Uvicorn running on " in line:
            return line.partition("Uvicorn running on ")[2].split()[0]
    raise AssertionError("it ended early:\n" + "".join(told))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_ends_with_0_when_it_is_told_to(number: signal.Signals) -> None:
    with _process(PORT="0") as process:
        url = _served(process)
        with httpx2.Client(base_url=url, trust_env=False) as client:
            assert client.get("/readyz").status_code == 200
            messages = [{"role": "user", "content": "hi"}]
            ask = {"messages": messages, "max_tokens": 2}
            answer = client.post("/v1/chat/completions", json=ask).json()
        assert answer["choices"][0]["message"]["content"] == "This answer"
        process.send_signal(number)
        assert process.wait(_PATIENCE_SECONDS) == 0


def test_an_answer_on_its_way_comes_to_its_end_before_the_process_does() -> None:
    with _process(PORT="0", SIMULATED_TOKENS_PER_SECOND="5") as process:
        url = _served(process)
        ask = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 3}
        with (
            httpx2.Client(base_url=url, trust_env=False) as client,
            client.stream("POST", "/v1/chat/completions", json=ask) as response,
        ):
            lines = response.iter_lines()
            first = json.loads(next(lines).removeprefix("data: "))
            process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert first["object"] == "chat.completion.chunk"
        assert "data: [DONE]" in rest
        assert process.wait(_PATIENCE_SECONDS) == 0


def test_wrong_settings_are_all_told_and_end_with_2() -> None:
    with _process(PORT="x", FRONTEND_URL="*", OPENAI_API_KEY="sk -secret") as process:
        _, told = process.communicate(timeout=_PATIENCE_SECONDS)
        assert process.returncode == 2
    for problem in ("PORT=x is not accepted", "FRONTEND_URL=* is not", "OPENAI_API_KEY=***"):
        assert problem in told
    assert "secret" not in told


def test_a_taken_port_is_told_and_is_a_failed_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _process(PORT=str(port)) as process:
            _, told = process.communicate(timeout=_PATIENCE_SECONDS)
            assert process.returncode not in (0, 2)
    assert "address already in use" in told
