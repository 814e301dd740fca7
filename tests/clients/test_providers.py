"""Responses of real providers: what a client sees of them, and what is recorded on the span."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import anthropic
import openai
import pytest

from chatscope import names
from stack.waiting import poll_until
from tests.clients.endpoint import Endpoint, endpoint
from tests.clients.recorded import CASES, PRICES, Case, respond
from tests.hostile.service import Service, started
from tests.receiver import ReceivedSpan

_SPAN_SECONDS: Final = 30
_PROVIDER: Final = """
[[providers]]
name = "{name}"
base_url = "{url}{base}"
max_retries = 0
{settings}
"""
_MODEL: Final = """
    [[providers.models]]
    name = "{name}"
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Endpoint]:
    with endpoint(respond) as served:
        yield served


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, provider: Endpoint) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    text = ""
    for name, cases in itertools.groupby(CASES.values(), key=lambda case: case.provider_name):
        models = list(cases)
        text += _PROVIDER.format(
            name=name, url=provider.url, base=models[0].base, settings=models[0].settings
        )
        text += "".join(_MODEL.format(name=case.model) for case in models)
    prices = {name: PRICES for name, case in CASES.items() if case.priced}
    (directory / "models.toml").write_text(text)
    (directory / "prices.json").write_text(json.dumps(prices))
    with started(
        directory,
        MODELS_FILE=str(directory / "models.toml"),
        PRICES_FILE=str(directory / "prices.json"),
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="-", max_retries=0) as one:
        yield one


class _Seen:
    """What the client received."""

    def __init__(self) -> None:
        self.trace_id = ""
        self.text = ""
        self.reasoning = ""
        self.calls: dict[int, list[str]] = {}
        self.signatures: list[str] = []
        self.finish: str | None = None
        self.usage: Any = None
        self.error: openai.APIError | None = None

    def add(self, message: Any) -> None:
        self.text += message.content or ""
        more = message.model_extra or {}
        self.reasoning += more.get("reasoning_content") or more.get("reasoning") or ""
        for position, call in enumerate(message.tool_calls or ()):
            index = getattr(call, "index", position)
            assert type(index) is int
            if call.function.name:
                assert index not in self.calls, "two calls have the same number"
                assert call.id
                self.calls[index] = [call.function.name, ""]
            self.calls[index][1] += call.function.arguments or ""
            google = (call.model_extra or {}).get("extra_content", {}).get("google", {})
            self.signatures += google.values()


def _ask(client: Any, case: Case) -> _Seen:
    seen = _Seen()
    create = client.chat.completions.with_raw_response.create
    question = {"model": case.model, "messages": [{"role": "user", "content": "hello"}]}
    try:
        if case.streamed:
            options = {"include_usage": True}
            response = create(**question, stream=True, stream_options=options)
            seen.trace_id = response.headers["x-trace-id"]
            _read(response.parse(), seen)
        else:
            response = create(**question)
            seen.trace_id = response.headers["x-trace-id"]
            found = response.parse()
            seen.add(found.choices[0].message)
            seen.finish, seen.usage = found.choices[0].finish_reason, found.usage
    except openai.APIError as error:
        seen.error = error
        if isinstance(error, openai.APIStatusError):
            seen.trace_id = error.response.headers["x-trace-id"]
    return seen


def _read(chunks: Any, seen: _Seen) -> None:
    for chunk in chunks:
        seen.usage = chunk.usage or seen.usage
        for choice in chunk.choices:
            seen.add(choice.delta)
            seen.finish = choice.finish_reason or seen.finish


def _span(service: Service, trace_id: str) -> ReceivedSpan:
    """Return the span of the call, once it was exported."""

    def exported() -> ReceivedSpan | None:
        return next(
            (
                span
                for span in service.receiver.spans
                if span.trace_id == trace_id and names.GEN_AI_OPERATION_NAME in span.attributes
            ),
            None,
        )

    return poll_until(exported, "the span of the call", _SPAN_SECONDS)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.provider}-{case.name}") for case in CASES.values()]
)
def test_response_of_provider(
    service: Service, provider: Endpoint, client: Any, case: Case
) -> None:
    seen = _ask(client, case)
    expect = case.expect
    path, body = provider.requests[-1]
    assert path == case.path
    assert ("stream_options" in body) == (case.streamed and not case.refuses_stream_options)
    assert seen.text == expect.get("text", "")
    span = _span(service, seen.trace_id).attributes
    assert span[names.GEN_AI_PROVIDER_NAME] == case.provider_name
    if "error" in expect:
        _check_error(seen, expect["error"], span)
        return
    assert seen.error is None
    assert seen.finish == expect["finish"]
    assert seen.reasoning == expect.get("reasoning", "")
    calls = [[name, json.loads(arguments)["city"]] for name, arguments in seen.calls.values()]
    assert calls == expect.get("calls", [])
    assert seen.signatures == ([expect["signature"]] if "signature" in expect else [])
    _check_usage(seen, expect, span)
    assert span[names.GEN_AI_RESPONSE_FINISH_REASONS] == (expect["finish"],)
    assert span[names.ANSWER_COST] == pytest.approx(expect["cost"], abs=1e-9)
    assert span[names.ANSWER_OUTCOME] == "completed"


def _check_usage(seen: _Seen, expect: Mapping[str, Any], span: Mapping[str, Any]) -> None:
    reported = expect.get("reported", expect["usage"])
    assert seen.usage.prompt_tokens == reported["prompt"]
    assert seen.usage.completion_tokens == reported["completion"]
    usage = expect["usage"]
    assert {
        "prompt": span[names.GEN_AI_USAGE_INPUT_TOKENS],
        "completion": span[names.GEN_AI_USAGE_OUTPUT_TOKENS],
        "cached": span.get(names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS) or 0,
        "reasoning": span.get(names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS) or 0,
    } == {"cached": 0, "reasoning": usage.get("reasoning", 0), **usage}
    assert "chatscope.usage.partial" not in span


def _check_error(seen: _Seen, expect: Mapping[str, Any], span: Mapping[str, Any]) -> None:
    error = seen.error
    assert type(error).__name__ == expect["class"]
    assert isinstance(error, openai.APIError)
    assert error.code == expect["code"]
    assert expect["message"] in error.message
    if isinstance(error, openai.APIStatusError):
        assert error.status_code == expect["status"]
        assert error.response.headers.get("retry-after") == expect.get("retry_after")
    assert span["error.type"] == expect["type"]


_TOOLS = [case for case in CASES.values() if case.name == "tools"]
_REASONING = [case for case in CASES.values() if case.expect.get("reasoning") and case.streamed]
_QUESTION: Final[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def anthropic_client(service: Service) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=service.url, api_key="-", max_retries=0) as one:
        yield one


def _message(client: Any, case: Case, **options: Any) -> Any:
    with client.messages.stream(
        model=case.model, max_tokens=4000, messages=_QUESTION, **options
    ) as stream:
        return stream.get_final_message()


def _response(client: Any, case: Case) -> Any:
    with client.responses.stream(model=case.model, input="hello") as stream:
        return stream.get_final_response()


@pytest.mark.parametrize("case", _TOOLS, ids=[case.provider for case in _TOOLS])
def test_tool_calls_of_provider_in_other_formats(
    client: Any, anthropic_client: Any, case: Case
) -> None:
    message = _message(anthropic_client, case)
    blocks = [block for block in message.content if block.type == "tool_use"]
    assert [[block.name, block.input["city"]] for block in blocks] == case.expect["calls"]
    assert len({block.id for block in blocks}) == len(blocks)
    assert message.stop_reason == "tool_use"
    assert message.usage.input_tokens == case.expect["usage"]["prompt"]
    items = [item for item in _response(client, case).output if item.type == "function_call"]
    calls = [[item.name, json.loads(item.arguments)["city"]] for item in items]
    assert calls == case.expect["calls"]
    assert all(item.call_id for item in items)


@pytest.mark.parametrize("case", _REASONING, ids=[case.provider for case in _REASONING])
def test_reasoning_of_provider_in_other_formats(
    client: Any, anthropic_client: Any, case: Case
) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    content = _message(anthropic_client, case, thinking=thinking).content
    assert [block.type for block in content] == ["thinking", "text"]
    assert content[0].thinking == case.expect["reasoning"]
    assert content[1].text == case.expect["text"]
    response = _response(client, case)
    reasoning = [item for item in response.output if item.type == "reasoning"]
    thoughts = [part.text for item in reasoning for part in item.content]
    assert "".join(thoughts) == case.expect["reasoning"]
    assert response.output_text == case.expect["text"]
