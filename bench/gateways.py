"""Gateways that the benchmarks compare, each a process of its own in front of a given provider."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final

import psutil
import yaml

from bench.competitors import environments
from bench.competitors.environments import UnavailableError
from bench.provider import MODEL
from stack.facts import ROOT
from stack.progress import Progress
from stack.waiting import WaitError, poll_until

SIMULATED: Final = "simulated-1"
SIMULATED_TOKENS: Final = 60
# LiteLLM's proxy needs some 15 s of CPU.
_START_SECONDS: Final = 900.0
_HAND_MADE: Final = environments.FOLDER / "openai_gateway.py"


@dataclass(frozen=True)
class Gateway:
    """A gateway that can be started; `environment` is the competitor's, none for our own."""

    name: str
    program: tuple[str, ...]
    environ: Mapping[str, str]
    exports: bool = False
    environment: str | None = None
    ready: str = "/readyz"

    @property
    def is_chatscope(self) -> bool:
        """Whether it is the service of this repository, which has a simulated model."""
        return self.program == _APP


@dataclass(frozen=True)
class Running:
    """A gateway that is ready, and a client connected to it."""

    process: psutil.Process
    port: int

    def cpu(self) -> float:
        """Return the CPU seconds used so far by all threads and child processes."""
        family = (self.process, *self.process.children(recursive=True))
        times = [process.cpu_times() for process in family]
        return float(sum(each.user + each.system for each in times))


_APP: Final = ("-m", "app")
_APP_ENVIRON: Final = {
    "OPENAI_MODELS": MODEL,
    "SIMULATED_FIRST_TOKEN_SECONDS": "0",
    "SIMULATED_TOKENS_PER_SECOND": "0",
    "SIMULATED_ANSWER_TOKENS": str(SIMULATED_TOKENS),
}
_OFF: Final = {"OTEL_SDK_DISABLED": "true"}
# Every request has it. LiteLLM does not start without one; the others ignore it.
KEY: Final = f"sk-{token_hex(16)}"
# Of https://docs.litellm.ai/docs/proxy/prod: a master key, no debug output, one worker. The table
# of prices is that of the package instead of one that is downloaded.
_LITELLM_ENVIRON: Final = {
    "LITELLM_MASTER_KEY": KEY,
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
# Of https://docs.litellm.ai/docs/observability/opentelemetry_integration.
_LITELLM_OTEL: Final = {
    "OTEL_EXPORTER": "otlp_grpc",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    "LITELLM_OTEL_INTEGRATION_ENABLE_METRICS": "true",
}
# The SDK's default of 5 s would leave spans of a measured request unexported when it ends.
_SDK: Final = {"OTEL_BSP_SCHEDULE_DELAY": "1000"}

CHATSCOPE: Final = Gateway("chatscope", _APP, _APP_ENVIRON, exports=True)
CHATSCOPE_OFF: Final = Gateway("chatscope, telemetry off", _APP, {**_APP_ENVIRON, **_OFF})
CLIENT: Final = Gateway("Starlette, openai", (str(_HAND_MADE), "none"), {})
CLIENT_CHATSCOPE: Final = Gateway(
    "Starlette, openai, chatscope", (str(_HAND_MADE), "chatscope"), {}, exports=True
)
CLIENT_OPENLLMETRY: Final = Gateway(
    "Starlette, openai, OpenLLMetry",
    (str(_HAND_MADE), "openllmetry"),
    _SDK,
    exports=True,
    environment="openllmetry",
)
LITELLM: Final = Gateway(
    "LiteLLM",
    ("litellm",),
    _LITELLM_ENVIRON,
    environment="litellm",
    ready="/health/readiness",
)
LITELLM_OTEL: Final = Gateway(
    "LiteLLM, OpenTelemetry",
    ("litellm", "otel"),
    {**_LITELLM_ENVIRON, **_LITELLM_OTEL, **_SDK},
    exports=True,
    environment="litellm",
    ready="/health/readiness",
)


@contextmanager
def running(
    gateway: Gateway, provider: str, endpoint: str, progress: Progress
) -> Iterator[Running]:
    """Run a gateway, ready inside. `endpoint` receives OTLP over gRPC.

    Raises UnavailableError if its environment cannot be made, or it does not start.
    """
    python = Path(sys.executable)
    if gateway.environment is not None:
        python = environments.python(gateway.environment, progress)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {
        **os.environ,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
        "OPENAI_BASE_URL": provider,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        **gateway.environ,
        "PORT": str(port),
    }
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        command = _command(gateway, python, port, provider, Path(directory))
        with log.open("wb") as output, _process(command, environ, output.fileno()) as process:

            def answers() -> bool:
                if process.poll() is not None:
                    raise UnavailableError(f"it ended: {log.read_text()[-500:]}")
                progress.tick()
                return _status(port, gateway.ready) == http.client.OK

            with progress.activity(f"Starting {gateway.name}"):
                _wait(answers, gateway.name)
            yield Running(psutil.Process(process.pid), port)


def ask(client: http.client.HTTPConnection, model: str, tokens: int, *, stream: bool) -> None:
    """Ask a gateway for so many tokens. Raises RuntimeError if the response is incomplete."""
    message = {"role": "user", "content": "How are you?"}
    asked = {"model": model, "stream": stream, "messages": [message], "max_tokens": tokens}
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    client.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
    response = client.getresponse()
    text = response.read()
    if response.status != http.client.OK or (stream and not text.endswith(b"data: [DONE]\n\n")):
        raise RuntimeError(f"{response.status}: {text[-500:]!r}")


def _wait(answers: Callable[[], bool], name: str) -> None:
    try:
        poll_until(answers, name, _START_SECONDS, 0.2, giving_up_on=(UnavailableError,))
    except WaitError as error:
        raise UnavailableError(str(error)) from error


def _command(
    gateway: Gateway, python: Path, port: int, provider: str, directory: Path
) -> Sequence[str]:
    if gateway.program[0] != "litellm":
        return (str(python), *gateway.program)
    settings = {"callbacks": list(gateway.program[1:]), "num_retries": 0}
    model = {"model": f"openai/{MODEL}", "api_base": provider, "api_key": "none"}
    models = [{"model_name": MODEL, "litellm_params": model}]
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump({"model_list": models, "litellm_settings": settings}))
    listen = ("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    return (str(python.with_name("litellm")), "--config", str(config), *listen)


@contextmanager
def _process(
    command: Sequence[str], environ: Mapping[str, str], output: int
) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _status(port: int, path: str) -> int:
    """Return the status of a GET, 0 if there is no response."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        client.request("GET", path)
        return client.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        client.close()
