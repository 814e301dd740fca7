"""The official clients, instrumented, against an endpoint on a socket: nothing is counted twice."""

import asyncio
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from chatscope import genai, names
from chatscope.genai import Recorder, clients
from chatscope.genai.deferred import WORKER
from chatscope.genai.pricing import Price, PriceTable
from chatscope.genai.request import ModelRequest
from chatscope.instruments import Instruments
from tests.memory import Memory
from tests.unit.telemetry.model_endpoint import REFUSED, model_endpoint

for _module in ("openai", "anthropic"):
    pytest.importorskip(
        f"opentelemetry.instrumentation.genai.{_module}", reason="the extras are not installed"
    )
openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

MODEL = "gpt-4o"
_MESSAGES: Any = [{"role": "user", "content": "hello"}]
_COST = (10 * 2.5 + 2 * 10.0) / 1e6


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with model_endpoint() as address:
        yield address


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def recorder(memory: Memory) -> Iterator[Recorder]:
    providers = memory.providers
    recorder = Recorder(
        tracer=providers.tracer_provider.get_tracer("test"),
        instruments=Instruments(providers.meter_provider.get_meter("test"), tallies=memory.tallies),
        prices=PriceTable({MODEL: Price(prompt=2.5, completion=10.0)}),
    )
    genai.use_recorder(recorder)
    yield recorder
    genai.forget_recorder(recorder)


@pytest.fixture
def instrumented(
    memory: Memory, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    providers = memory.providers
    given: Any = {
        "tracer_provider": providers.tracer_provider,
        "meter_provider": providers.meter_provider,
    }
    assert genai.instrument_clients(**given) == ("openai", "anthropic")
    assert genai.instrument_clients(**given) == ("openai", "anthropic")
    assert caplog.messages == []
    yield
    genai.uninstrument_clients()


@pytest.fixture
def client(endpoint: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{endpoint}/v1", api_key="x", max_retries=0) as client:
        yield client


def _ask(client: Any, *, stream: bool = False) -> str:
    options: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    response = client.chat.completions.create(model=MODEL, messages=_MESSAGES, **options)
    if not stream:
        return str(response.choices[0].message.content)
    return "".join(chunk.choices[0].delta.content or "" for chunk in response if chunk.choices)


def _calls(memory: Memory) -> float:
    """Calls by the names of our recorders and by those of the official instrumentations."""
    counted = (names.CLIENT_INFERENCE_DURATION, names.EMBEDDINGS_DURATION, names.OLDER_DURATION)
    return sum(memory.value(metric.name) for metric in counted)


def _tokens(memory: Memory) -> float:
    """How often tokens were recorded: input and output are two."""
    counted = (
        names.CLIENT_INPUT_TOKENS,
        names.CLIENT_OUTPUT_TOKENS,
        names.EMBEDDINGS_INPUT_TOKENS,
        names.OLDER_TOKENS,
    )
    return sum(memory.value(metric.name) for metric in counted)


def _check_counted_once(memory: Memory, *, model: str = MODEL) -> dict[str, Any]:
    """One call was recorded; return the attributes of its span."""
    assert WORKER.flush(60.0)
    span = memory.span(f"chat {model}")
    assert span.kind is SpanKind.CLIENT
    found = dict(span.attributes or {})
    assert found[names.GEN_AI_USAGE_INPUT_TOKENS] == 10
    assert found[names.GEN_AI_USAGE_OUTPUT_TOKENS] == 2
    assert _calls(memory) == 1
    assert _tokens(memory) == 2
    assert memory.value("llm_response_time") == 1
    assert memory.value("llm_token_usage", type="prompt") == 10
    assert memory.value("llm_token_usage", type="completion") == 2
    return found


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.usefixtures("instrumented")
def test_client_alone_has_span_tokens_and_cost(stream: bool, memory: Memory, client: Any) -> None:
    assert _ask(client, stream=stream) == "one two"
    found = _check_counted_once(memory)
    assert found[names.ANSWER_COST] == pytest.approx(_COST)
    assert memory.value("llm_cost") == pytest.approx(_COST)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.usefixtures("instrumented")
def test_client_inside_of_a_recorder_tells_it_what_it_knows(
    stream: bool, memory: Memory, client: Any
) -> None:
    with genai.inference(model=MODEL, provider="openai"):
        assert _ask(client, stream=stream) == "one two"
    found = _check_counted_once(memory)
    assert found[names.ANSWER_OUTCOME] == "completed"
    assert found[names.GEN_AI_RESPONSE_ID] == "c-1"
    assert found[names.GEN_AI_RESPONSE_MODEL] == "gpt-4o-2026"
    assert found[names.GEN_AI_RESPONSE_FINISH_REASONS] == ("stop",)
    assert found[names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] == 4
    assert memory.value("llm_cost") == pytest.approx(_COST)


@pytest.mark.usefixtures("instrumented")
def test_stream_of_a_client_that_both_see_is_counted_once(memory: Memory, client: Any) -> None:
    with genai.inference(model=MODEL, provider="openai") as call:
        options = {"stream_options": {"include_usage": True}}
        chunks = client.chat.completions.create(
            model=MODEL, messages=_MESSAGES, stream=True, **options
        )
        assert len(list(call.stream(chunks))) == 4
    _check_counted_once(memory)
    assert memory.value("gen_ai.client.inference.time_to_first_chunk") == 1
    assert memory.value("gen_ai.client.inference.time_per_output_chunk") == 1


@pytest.mark.usefixtures("instrumented")
def test_client_of_the_gateway_is_part_of_its_answer(
    memory: Memory, recorder: Recorder, client: Any
) -> None:
    answer = recorder.start_answer(ModelRequest(provider="openai", model=MODEL), started=0.0)
    with answer.current():
        _ask(client)
    answer.completed(finish_reason="stop", usage=genai.Usage(10, 2))
    answer.close()
    _check_counted_once(memory)


@pytest.mark.usefixtures("instrumented")
def test_recorder_inside_of_a_frameworks_call_tells_it_what_it_knows(memory: Memory) -> None:
    outer = _handler(memory).inference("openai", request_model=MODEL)
    with outer, genai.inference(model=MODEL, provider="openai") as call:
        assert call.trace_id == ""
        call.response(text="one two", usage=genai.Usage(10, 2), id="c-1")
    found = dict(memory.span("chat gpt-4o").attributes or {})
    assert found[names.GEN_AI_USAGE_INPUT_TOKENS] == 10
    assert found[names.GEN_AI_RESPONSE_ID] == "c-1"
    assert _tokens(memory) == 2


def _handler(memory: Memory) -> Any:
    """What the instrumentation of a framework uses."""
    module = import_module("opentelemetry.util.genai.handler")
    providers = memory.providers
    return module.TelemetryHandler(
        tracer_provider=providers.tracer_provider, meter_provider=providers.meter_provider
    )


@pytest.mark.usefixtures("instrumented")
def test_call_of_a_tool_inside_of_a_call_is_counted_too(memory: Memory, client: Any) -> None:
    with genai.inference(model=MODEL, provider="openai") as call, genai.execute_tool("search"):
        _ask(client)
        call.response(usage=genai.Usage(1, 1))
    assert sorted(span.name for span in memory.spans) == [
        "chat gpt-4o",
        "chat gpt-4o",
        "execute_tool search",
    ]
    assert memory.value("llm_token_usage", type="prompt") == 11


@pytest.mark.usefixtures("instrumented")
def test_call_after_a_recorder_has_ended_is_another_call(memory: Memory, client: Any) -> None:
    with genai.inference(model=MODEL, provider="openai") as call:
        call.response(usage=genai.Usage(1, 1))
    _ask(client)
    assert len(memory.spans) == 2
    assert memory.value("llm_token_usage", type="prompt") == 11


@pytest.mark.usefixtures("instrumented")
def test_call_after_a_closed_one_in_its_block_is_another_call(memory: Memory) -> None:
    with genai.inference(model=MODEL, provider="openai") as call:
        call.close()
        with genai.inference(model="second", provider="openai"):
            pass
    assert [span.name for span in memory.spans] == ["chat gpt-4o", "chat second"]


@pytest.mark.usefixtures("instrumented")
def test_failed_call_of_a_client_is_one_failure(memory: Memory, client: Any) -> None:
    with pytest.raises(openai.RateLimitError), genai.inference(model=MODEL, provider="openai"):
        client.chat.completions.create(model=REFUSED, messages=_MESSAGES)
    found = dict(memory.span("chat gpt-4o").attributes or {})
    assert found[names.ERROR_TYPE] == "openai.RateLimitError"
    assert _calls(memory) == 1
    assert memory.points("llm_cost") == []


@pytest.mark.usefixtures("instrumented")
def test_async_client_is_counted_once(memory: Memory, endpoint: str) -> None:
    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=f"{endpoint}/v1", api_key="x") as client:
            chunks = await client.chat.completions.create(
                model=MODEL,
                messages=_MESSAGES,
                stream=True,
                stream_options={"include_usage": True},
            )
            assert len([chunk async for chunk in chunks]) == 4

    async def ask_recorded() -> None:
        async with genai.inference(model=MODEL, provider="openai"):
            await ask()

    asyncio.run(ask_recorded())
    _check_counted_once(memory)


@pytest.mark.usefixtures("instrumented")
def test_embeddings_of_a_client_are_counted_once(memory: Memory, client: Any) -> None:
    with genai.embeddings(model=MODEL, provider="openai"):
        client.embeddings.create(model=MODEL, input="x")
    found = dict(memory.span("embeddings gpt-4o").attributes or {})
    assert found[names.GEN_AI_USAGE_INPUT_TOKENS] == 8
    assert _calls(memory) == 1
    assert memory.value("llm_token_usage", type="prompt") == 8


@pytest.mark.parametrize("recorded", [False, True], ids=["alone", "recorded"])
@pytest.mark.usefixtures("instrumented")
def test_anthropic_client_is_counted_once(recorded: bool, memory: Memory, endpoint: str) -> None:
    with anthropic.Anthropic(base_url=endpoint, api_key="x", max_retries=0) as client:

        def ask() -> None:
            client.messages.create(model="claude", max_tokens=9, messages=_MESSAGES)

        if recorded:
            genai.inference(model="claude", provider="anthropic")(ask)()
        else:
            ask()
    _check_counted_once(memory, model="claude")


def test_gateway_may_count_the_cost_instead(
    memory: Memory, recorder: Recorder, client: Any
) -> None:
    genai.instrument_clients(
        "openai",
        tracer_provider=memory.providers.tracer_provider,
        meter_provider=memory.providers.meter_provider,
        count_cost=False,
    )
    try:
        _ask(client)
    finally:
        genai.uninstrument_clients()
    assert _tokens(memory) == 2
    assert memory.points("llm_cost") == memory.points("llm_token_usage") == []
    _ask(client)
    assert len(memory.spans) == 1


def test_unknown_and_missing_clients_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=r"openai, anthropic \(got 'cohere'\)"):
        genai.instrument_clients("cohere")
    monkeypatch.setitem(clients._INSTRUMENTATIONS, "openai", ("opentelemetry.nowhere.at", "X"))
    monkeypatch.setitem(clients._INSTRUMENTATIONS, "anthropic", ("nowhere", "X"))
    with pytest.raises(clients.MissingInstrumentationError, match=r"chatscope\[openai\]"):
        genai.instrument_clients("openai")
    assert genai.instrument_clients() == ()
    [message] = caplog.messages
    assert 'pip install "chatscope[openai]"' in message
