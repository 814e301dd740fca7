"""CPU of a response through the service, with telemetry and without, beside a typical gateway.

    python -m bench.cpu

Each variant is a process of its own, started anew in each round, in turns, and is asked over one
connection. Figures are the CPU time of the process with all its threads, medians of the rounds:

- chatscope: `python -m app`, all three signals exported over OTLP/gRPC to a receiver that accepts
  everything, one log line for each response on the console.
- chatscope, telemetry off: the same with `OTEL_SDK_DISABLED=true`.
- starlette, openai: what one writes by hand: a Starlette route that passes on the chunks of the
  official `openai` client, served by uvicorn; no telemetry, no limits, no log line.

A chunk is one of a streamed response whose provider sends them as fast as it can, in packets of
1,400 bytes; a JSON and a streamed response of 60 tokens come from the simulated model, which the
third variant lacks.
"""

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import psutil
from rich.table import Table

from bench.otlp import receiver
from stack.facts import ROOT
from stack.terminal import Terminal
from stack.waiting import poll_until

_CHUNKS: Final = 1_000
_PACKET_BYTES: Final = 1_400
_TOKENS: Final = 60
_START_SECONDS: Final = 60.0
# Telemetry of the last responses is exported in this time.
_SETTLE_SECONDS: Final = 2.0
_PATH: Final = "/v1/chat/completions"
_SIMULATED: Final = "simulated-1"
_RELAYED: Final = "relayed"
_KINDS: Final = ("JSON response, ms", "streamed response, ms", "relayed chunk, µs")
_VARIANTS: Final = ("chatscope", "chatscope, telemetry off", "starlette, openai")
_GATEWAY: Final = """
import os

import openai
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

client = openai.AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none")


async def complete(request: Request) -> Response:
    stream = await client.chat.completions.create(**await request.json())

    async def events():
        async for chunk in stream:
            yield f"data: {chunk.model_dump_json()}\\n\\n"
        yield "data: [DONE]\\n\\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def ready(request: Request) -> Response:
    return JSONResponse({})


app = Starlette(
    routes=[
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/readyz", ready),
    ]
)
uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning")
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--responses", type=int, default=200, help="of each kind in a round")
    given = parser.parse_args(arguments)
    exports, endpoint = receiver()
    console = Terminal()
    found: dict[tuple[str, str], list[float]] = {}
    with _provider() as url:
        for number in range(given.rounds):
            for variant in _VARIANTS:
                console.print(f"round {number + 1} of {given.rounds}: {variant}", highlight=False)
                environ = _environ(variant, url, endpoint)
                for kind, cost in _measure(variant, environ, given.responses).items():
                    found.setdefault((variant, kind), []).append(cost)
    exports.stop(0)
    console.print(_table(found))
    return 0


def _environ(variant: str, provider: str, endpoint: str) -> dict[str, str]:
    telemetry = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    return {
        **os.environ,
        "OPENAI_BASE_URL": f"{provider}/v1",
        "OPENAI_MODELS": _RELAYED,
        "SIMULATED_FIRST_TOKEN_SECONDS": "0",
        "SIMULATED_TOKENS_PER_SECOND": "0",
        "SIMULATED_ANSWER_TOKENS": str(_TOKENS),
        **({"OTEL_SDK_DISABLED": "true"} if variant.endswith("off") else telemetry),
    }


def _measure(variant: str, environ: Mapping[str, str], responses: int) -> dict[str, float]:
    """Return the cost of each kind in its unit."""
    with _running(variant, environ) as (process, client):
        found = {}
        if variant.startswith("chatscope"):
            for kind, stream in zip(_KINDS, (False, True), strict=False):
                cpu = _cpu(process, client, _SIMULATED, responses, stream=stream)
                found[kind] = cpu / responses * 1e3
        streams = max(1, responses // 10)
        cpu = _cpu(process, client, _RELAYED, streams, stream=True)
        found[_KINDS[2]] = cpu / streams / _CHUNKS * 1e6
        return found


@contextmanager
def _running(
    variant: str, environ: Mapping[str, str]
) -> Iterator[tuple[psutil.Process, http.client.HTTPConnection]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        gateway = Path(directory) / "gateway.py"
        gateway.write_text(_GATEWAY)
        program = ["-m", "app"] if variant.startswith("chatscope") else [str(gateway)]
        with subprocess.Popen(
            [sys.executable, *program],
            cwd=ROOT,
            env={**environ, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
            try:
                poll_until(lambda: _get(client, "/readyz"), variant, _START_SECONDS)
                yield psutil.Process(process.pid), client
            finally:
                client.close()
                process.terminate()


def _cpu(
    process: psutil.Process,
    client: http.client.HTTPConnection,
    model: str,
    times: int,
    *,
    stream: bool,
) -> float:
    """Return the CPU seconds of so many responses, after some that are not counted."""
    message = {"role": "user", "content": "How are you?"}
    body = json.dumps({"model": model, "stream": stream, "messages": [message]})

    def ask(count: int) -> None:
        for _ in range(count):
            client.request("POST", _PATH, body, {"content-type": "application/json"})
            response = client.getresponse()
            text = response.read()
            if response.status != 200 or (stream and not text.endswith(b"data: [DONE]\n\n")):
                raise RuntimeError(f"{response.status}: {text[-500:]!r}")

    ask(max(5, times // 10))
    time.sleep(_SETTLE_SECONDS)
    before = process.cpu_times()
    ask(times)
    time.sleep(_SETTLE_SECONDS)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system)


def _get(client: http.client.HTTPConnection, path: str) -> bool:
    try:
        client.request("GET", path)
        response = client.getresponse()
        response.read()
    except OSError:
        client.close()
        return False
    return response.status == 200


@contextmanager
def _provider() -> Iterator[str]:
    """An OpenAI-compatible endpoint that streams chunks as fast as it can; yield its URL."""
    response = _response()

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as requests:
            while requests.readline():
                length = 0
                while (line := requests.readline().strip().lower()) != b"":
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                requests.read(length)
                for packet in response:
                    connection.sendall(packet)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _response() -> list[bytes]:
    shared = {"id": "r-1", "object": "chat.completion.chunk", "created": 1, "model": _RELAYED}

    def event(delta: dict[str, str], reason: str | None = None, **more: object) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return f"data: {json.dumps({**shared, 'choices': [choice], **more})}\n\n"

    usage = {"prompt_tokens": 4, "completion_tokens": _CHUNKS, "total_tokens": _CHUNKS + 4}
    events = [event({"content": f" word{number}"}) for number in range(_CHUNKS)]
    body = "".join([*events, event({}, "stop", usage=usage), "data: [DONE]\n\n"]).encode()
    parts = [body[at : at + _PACKET_BYTES] for at in range(0, len(body), _PACKET_BYTES)]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return [head, *(b"%x\r\n%s\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


def _table(found: Mapping[tuple[str, str], list[float]]) -> Table:
    spread = max((max(each) - min(each)) / median(each) for each in found.values())
    table = Table(
        title="CPU time, medians", caption=f"largest spread of the rounds: {spread:.0%} of a median"
    )
    table.add_column("variant")
    for kind in _KINDS:
        table.add_column(kind, justify="right")
    for variant in _VARIANTS:
        figures = (found.get((variant, kind)) for kind in _KINDS)
        table.add_row(variant, *(f"{median(each):.2f}" if each else "" for each in figures))
    return table


if __name__ == "__main__":
    raise SystemExit(main())
