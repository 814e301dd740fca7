"""Official clients, unchanged, use every feature of the service that they have.

One program for each client (scripts/, node/) uses all of them and prints what it observed. Each
feature has one expectation for all clients: the same text, usage, tool calls and errors.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from stack.facts import ROOT
from tests.clients import behaviours, packages
from tests.clients.endpoint import Endpoint, endpoint
from tests.clients.matrix import CELLS, CLIENTS
from tests.hostile.service import Service, started

_KEY: Final = "sk-clients"
_PROGRAM_SECONDS: Final = 100
_REQUESTS: Final = Path(__file__).with_name("requests.json")
_INPUT: Final[Any] = json.loads(_REQUESTS.read_text())
_TOOLS: Final = {tool["name"]: tool["parameters"] for tool in _INPUT["tools"]}
_PROGRAMS: Final = {
    "curl": "curl_client",
    "openai-python": "openai_client",
    "openai-node": "openai.mjs",
    "anthropic-python": "anthropic_client",
    "anthropic-node": "anthropic.mjs",
    "ai-sdk": "ai_sdk.mjs",
    "langchain": "langchain_client",
    "litellm": "litellm_client",
}
# Of those for Python, the ones that are not in the development environment.
_INSTALLED: Final = ("langchain", "litellm")
_MODELS_FILE: Final = """
[[providers]]
name = "simulated-two"
simulated = {{ first_token_seconds = 0, tokens_per_second = 0 }}

    [[providers.models]]
    name = "simulated-2"

[[providers]]
name = "prepared"
base_url = "{url}/v1"
max_retries = 0
"""
_KEYS_FILE: Final = """
[[keys]]
name = "clients"
sha256 = "{digest}"
"""


@pytest.fixture(scope="module")
def prepared() -> Iterator[Endpoint]:
    with endpoint(behaviours.respond) as served:
        yield served


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, prepared: Endpoint) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    names = [name for name in _INPUT["models"].values() if not name.startswith("simulated")]
    models = "".join(f'\n    [[providers.models]]\n    name = "{name}"\n' for name in names)
    (directory / "models.toml").write_text(_MODELS_FILE.format(url=prepared.url) + models)
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    (directory / "keys.toml").write_text(_KEYS_FILE.format(digest=digest))
    with started(
        directory,
        MODELS_FILE=str(directory / "models.toml"),
        KEYS_FILE=str(directory / "keys.toml"),
        SIMULATED_ANSWER_TOKENS="12",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def reference(service: Service) -> dict[str, Any]:
    """The responses to the same requests, read without a client."""

    def post(path: str, **body: Any) -> Any:
        response = httpx2.post(
            f"{service.url}{path}",
            json={"model": _INPUT["models"]["chat"], **body},
            headers={"authorization": f"Bearer {_KEY}"},
            trust_env=False,
            timeout=30,
        )
        assert response.status_code == 200, response.text
        return response.json()

    ask = [{"role": "user", "content": _INPUT["question"]}]
    chat = post("/v1/chat/completions", messages=ask)
    embeddings = post("/v1/embeddings", input=_INPUT["texts"], dimensions=8)
    return {
        "text": chat["choices"][0]["message"]["content"],
        "usage": [chat["usage"]["prompt_tokens"], chat["usage"]["completion_tokens"]],
        "vectors": [one["embedding"] for one in embeddings["data"]],
    }


class _Programs:
    """The output of each client's program, which runs once."""

    def __init__(self, service: Service, directory: Path) -> None:
        self._service = service
        self._directory = directory
        self._seen: dict[str, dict[str, Any]] = {}

    def of(self, client: str) -> dict[str, Any]:
        """Return what a client observed, by feature."""
        if client not in self._seen:
            self._seen[client] = self._run(client)
        return self._seen[client]

    def _run(self, client: str) -> dict[str, Any]:
        try:
            command = self._command(client)
        except packages.UnavailableError as reason:
            pytest.skip(str(reason))
        done = subprocess.run(
            [*command, self._service.url, _KEY],
            cwd=ROOT,
            env={**_environment(), "REQUESTS": str(_REQUESTS)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROGRAM_SECONDS,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert done.returncode == 0, done.stderr
        return {line["feature"]: line for line in lines}

    def _command(self, client: str) -> list[str]:
        program = _PROGRAMS[client]
        if program.endswith(".mjs"):
            return self._node(program)
        if client == "curl" and not shutil.which("curl"):
            raise packages.UnavailableError("curl is needed")
        python = packages.python() if client in _INSTALLED else sys.executable
        return [python, "-m", f"tests.clients.scripts.{program}"]

    def _node(self, program: str) -> list[str]:
        """Modules are found beside the program only: both are in one folder."""
        modules = packages.node_modules()
        directory = self._directory / "node"
        if not directory.exists():
            shutil.copytree(packages.NODE, directory, ignore=shutil.ignore_patterns("*.json"))
            (directory / "node_modules").symlink_to(modules)
        return ["node", str(directory / program)]


def _environment() -> dict[str, str]:
    """Return the variables that a program needs; without those that change what a client does."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "NO_PROXY": "127.0.0.1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Otherwise these load files from the network, and send telemetry.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LANGSMITH_TRACING": "false",
    }


@pytest.fixture(scope="module")
def programs(service: Service, tmp_path_factory: pytest.TempPathFactory) -> _Programs:
    return _Programs(service, tmp_path_factory.mktemp("programs"))


@pytest.mark.parametrize(
    ("client", "feature"),
    [pytest.param(client, feature, id=f"{client}-{feature}") for client, feature in CELLS],
)
def test_client_uses_feature(
    programs: _Programs, reference: dict[str, Any], client: str, feature: str
) -> None:
    line = programs.of(client)[feature]
    assert "failure" not in line, line["failure"]
    _EXPECTED[feature](client, line["seen"], reference)


def _is_anthropic(client: str) -> bool:
    return client.startswith("anthropic")


def _finish(client: str, reason: str) -> str:
    """The name that a client's format has for a finish reason of chat completions."""
    if _is_anthropic(client):
        return {"stop": "end_turn", "tool_calls": "tool_use"}[reason]
    return reason.replace("_", "-") if client == "ai-sdk" else reason


def _chat(client: str, seen: Any, reference: Any) -> None:
    assert seen == {
        "text": reference["text"],
        "finish": _finish(client, "stop"),
        "usage": reference["usage"],
    }


def _stream(client: str, seen: Any, reference: Any) -> None:
    assert (seen["text"], seen["finish"]) == (reference["text"], _finish(client, "stop"))
    assert seen["chunks"] > 3


def _stream_usage(_: str, seen: Any, reference: Any) -> None:
    assert seen == {"usage": reference["usage"]}


def _valid_calls(client: str, seen: Any) -> list[str]:
    """Return the names of the called tools, whose arguments satisfy their schemas."""
    assert seen["finish"] == _finish(client, "tool_calls")
    assert all(call_id for call_id, _, _ in seen["calls"])
    for _, name, arguments in seen["calls"]:
        assert list(arguments) == list(_TOOLS[name]["required"])
        assert type(arguments["city"]) is str
        assert type(arguments.get("days", 1)) is int
    assert len({call_id for call_id, _, _ in seen["calls"]}) == len(seen["calls"])
    return [name for _, name, _ in seen["calls"]]


def _tools(client: str, seen: Any, _: Any) -> None:
    assert len(_valid_calls(client, seen)) == 1


def _tools_stream(client: str, seen: Any, _: Any) -> None:
    assert sorted(_valid_calls(client, seen)) == sorted(_TOOLS)


def _structured(_: str, seen: Any, __: Any) -> None:
    value = seen["value"]
    assert list(value) == _INPUT["schema"]["required"]
    assert value["unit"] in ("celsius", "fahrenheit")
    assert type(value["degrees"]) is int


def _image(_: str, seen: Any, __: Any) -> None:
    assert seen == {"text": f"data:image/png;base64,{_INPUT['image']}"}


def _reasoning(_: str, seen: Any, __: Any) -> None:
    assert seen == {"text": behaviours.ANSWER, "reasoning": behaviours.REASONING}


def _choices(_: str, seen: Any, reference: Any) -> None:
    assert len(seen["texts"]) == 2
    assert all(seen["texts"])
    assert seen["texts"][0] == reference["text"]


def _logprobs(_: str, seen: Any, __: Any) -> None:
    assert seen == {"tokens": [list(token) for token in behaviours.TOKENS]}


def _embeddings(_: str, seen: Any, reference: Any) -> None:
    # base64 has numbers of 32 bits.
    assert seen["vectors"] == [pytest.approx(one, rel=1e-6) for one in reference["vectors"]]


def _responses(_: str, seen: Any, reference: Any) -> None:
    assert seen == {"text": reference["text"], "usage": reference["usage"]}


def _messages(client: str, seen: Any, reference: Any) -> None:
    assert seen["finish"] == "end_turn"
    assert seen["text"]
    if not _is_anthropic(client):
        assert seen["text"] == reference["text"]
    if client != "litellm":
        assert 10 < seen["counted"] < 60


def _text_completion(client: str, seen: Any, reference: Any) -> None:
    assert seen["text"]
    assert seen["text"] == seen["streamed"]
    # The AI SDK adds the roles to the prompt, on which the simulated model's text depends.
    assert client == "ai-sdk" or seen["text"] == reference["text"]


def _models(_: str, seen: Any, __: Any) -> None:
    assert seen["models"][-1] != ""
    assert set(_INPUT["models"].values()) <= set(seen["models"])


# Class of the exception for status 400, 429, 401 and for an error within a stream; curl: the type.
_OPENAI_CLASSES: Final = ("BadRequestError", "RateLimitError", "AuthenticationError", "APIError")
_EXCEPTIONS: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "curl": (
        *("invalid_request_error", "rate_limit_error"),
        *("invalid_request_error", "provider_error"),
    ),
    "openai-python": _OPENAI_CLASSES,
    "openai-node": _OPENAI_CLASSES,
    "anthropic-python": (*_OPENAI_CLASSES[:3], "APIStatusError"),
    "anthropic-node": _OPENAI_CLASSES,
    # An error within a stream is the object of the event.
    "ai-sdk": ("APICallError", "APICallError", "APICallError", "Object"),
    "langchain": (
        *("OpenAIInvalidRequestError", "OpenAIRateLimitError"),
        *("OpenAIAuthenticationError", "APIError"),
    ),
    "litellm": (
        *("ContextWindowExceededError", "RateLimitError"),
        *("AuthenticationError", "MidStreamFallbackError"),
    ),
}


def _failed(client: str, seen: Any, case: int, status: int, code: str) -> None:
    assert (seen["error"], seen["status"]) == (_EXCEPTIONS[client][case], status)
    # LiteLLM's exceptions have no code.
    assert client == "litellm" or seen["code"] == code


def _invalid_request(client: str, seen: Any, _: Any) -> None:
    _failed(client, seen, 0, 400, "context_length_exceeded")
    assert behaviours.TOO_LONG in seen["message"]


def _rate_limit(client: str, seen: Any, _: Any) -> None:
    _failed(client, seen, 1, 429, "rate_limit_exceeded")
    assert behaviours.LIMITED in seen["message"]


def _authentication(client: str, seen: Any, _: Any) -> None:
    _failed(client, seen, 2, 401, "invalid_api_key")
    assert "API key" in seen["message"]


def _stream_error(client: str, seen: Any, _: Any) -> None:
    assert seen["error"] == _EXCEPTIONS[client][3]
    assert seen["text"] == behaviours.PARTIAL
    assert "failed during its response" in seen["message"]


_EXPECTED: Final[Mapping[str, Callable[[str, Any, Any], None]]] = {
    "chat": _chat,
    "stream": _stream,
    "stream_usage": _stream_usage,
    "tools": _tools,
    "tools_stream": _tools_stream,
    "structured": _structured,
    "image": _image,
    "reasoning": _reasoning,
    "choices": _choices,
    "logprobs": _logprobs,
    "embeddings": _embeddings,
    "responses": _responses,
    "responses_stream": _responses,
    "messages": _messages,
    "text_completion": _text_completion,
    "models": _models,
    "invalid_request": _invalid_request,
    "rate_limit": _rate_limit,
    "stream_error": _stream_error,
    "authentication": _authentication,
}


def test_every_client_has_a_program() -> None:
    assert set(_PROGRAMS) == set(_EXCEPTIONS) == set(CLIENTS)


def test_every_program_uses_the_features_of_its_client(programs: _Programs) -> None:
    for client in CLIENTS:
        expected = {feature for each, feature in CELLS if each == client}
        assert set(programs.of(client)) == expected, client
