"""Output of the simulated model in OpenAI's format: tool calls, JSON, several choices."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NoReturn

from app.domain.provider import ProviderError
from app.domain.request import ChatRequest, message_text
from app.providers.schema_values import SchemaTooLarge, SchemaValues
from app.response_id import new_response_id

# Characters of a token of JSON.
_TOKEN: Final = 6
_MAX_CHOICES: Final = 128
_MAX_STOPS: Final = 4
_FORMATS: Final = ("text", "json_object", "json_schema")
_MAX_PARALLEL: Final = 2


@dataclass(frozen=True)
class Output:
    """The chunks of one choice, as deltas, and the reason of its end."""

    deltas: Sequence[dict[str, Any]]
    finish_reason: str


def check(request: ChatRequest) -> None:
    """Raise ProviderError for an invalid parameter that the simulated model uses."""
    body = request.body
    for name in ("max_tokens", "max_completion_tokens"):
        if body.get(name) is not None and not _is_integer(body[name], 1, 2**31):
            _refuse(name, "an integer >= 1", body[name])
    if body.get("n") is not None and not _is_integer(body["n"], 1, _MAX_CHOICES):
        _refuse("n", f"an integer from 1 to {_MAX_CHOICES}", body["n"])
    if body.get("seed") is not None and not _is_integer(body["seed"], -(2**63), 2**63 - 1):
        _refuse("seed", "an integer of 64 bits", body["seed"])
    temperature = body.get("temperature")
    if temperature is not None and (request.temperature is None or not 0 <= temperature <= 2):
        _refuse("temperature", "a finite number from 0 to 2", temperature)
    stop = body.get("stop")
    given = stop if isinstance(stop, list) else [stop]
    if stop is not None and (len(request.stop) != len(given) or len(given) > _MAX_STOPS):
        _refuse("stop", f"a text, or a list of up to {_MAX_STOPS}, none of them empty", stop)
    tools = body.get("tools")
    if tools is not None and (
        not isinstance(tools, list) or not all(tool_name(tool) for tool in tools)
    ):
        _refuse("tools", "a list of functions with a name", None)
    _check_format(body.get("response_format"))


def called_tools(request: ChatRequest) -> list[Mapping[str, Any]]:
    """Return the tools to call: none after a tool's result, or if the client wants none.

    That whose name and description share the most words with the last message; two of them if
    the request asks for parallel calls.
    """
    choice = request.body.get("tool_choice")
    tools = list(request.tools)
    if not tools or choice == "none" or request.messages[-1]["role"] in ("tool", "function"):
        return []
    if isinstance(choice, dict) and (named := tool_name(choice)):
        return [tool for tool in tools if tool_name(tool) == named][:1]
    question = set(_words(message_text(request.messages[-1])))
    tools.sort(key=lambda tool: -len(question & set(_words(json.dumps(tool)))))
    return tools[: _MAX_PARALLEL if request.body.get("parallel_tool_calls") is True else 1]


def tool_name(tool: object) -> str:
    """Return the name of a tool, or of the choice of one; "" if it has none."""
    described = _described(tool)
    name = described.get("name")
    return name if isinstance(name, str) else ""


def tool_calls(tools: Sequence[Mapping[str, Any]], random: Random) -> Output:
    """Return calls of the tools with valid arguments."""
    deltas: list[dict[str, Any]] = []
    for index, tool in enumerate(tools):
        call_id = f"call_{random.getrandbits(96):024x}"
        schema = _described(tool).get("parameters")
        schema = schema if isinstance(schema, dict) else {"type": "object"}
        function = {"name": tool_name(tool), "arguments": ""}
        call = {"index": index, "id": call_id, "type": "function", "function": function}
        deltas.append({"tool_calls": [call]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in _pieces(json.dumps(_value(schema, random, "tools")))
        ]
    return Output(deltas, "tool_calls")


def json_output(request: ChatRequest, text: str, random: Random) -> Output:
    """Return JSON in the requested format; `text` is the content of an object without a schema."""
    value: Any = {"answer": text}
    if request.response_format == "json_schema":
        schema = request.body["response_format"]["json_schema"]["schema"]
        value = _value(schema, random, "response_format.json_schema.schema")
    return Output([{"content": piece} for piece in _pieces(json.dumps(value))], "stop")


def limited(output: Output, limit: int | None) -> Output:
    """Return at most `limit` chunks."""
    if limit is None or len(output.deltas) <= limit:
        return output
    return Output(output.deltas[:limit], "length")


def chunks(model: str, outputs: Sequence[Output], prompt_tokens: int) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a stream, one for each delta, with the usage at the end."""
    shared = {
        "id": new_response_id("sim-"),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }

    def chunk(index: int, delta: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**shared, "choices": [choice]}

    for index, output in enumerate(outputs):
        begin = {"role": "assistant", "content": None if "tool_calls" in output.deltas[0] else ""}
        yield chunk(index, begin, None)
        for delta in output.deltas:
            yield chunk(index, delta, None)
        yield chunk(index, {}, output.finish_reason)
    completion_tokens = sum(len(output.deltas) for output in outputs)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    yield {**shared, "choices": [], "usage": usage}


def _check_format(found: object) -> None:
    if found is None:
        return
    if not isinstance(found, dict) or found.get("type") not in _FORMATS:
        accepted = "an object with type text, json_object or json_schema"
        _refuse("response_format", accepted, None)
    elif found["type"] == "json_schema":
        described = found.get("json_schema")
        if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
            _refuse("response_format.json_schema", "an object with a schema", None)


def _refuse(param: str, accepted: str, value: object) -> NoReturn:
    text = repr(value)
    got = f" (got {text})" if value is not None and len(text) <= 40 else ""
    raise ProviderError(
        "invalid_request",
        "The simulated model refused the request:",
        detail=f"{param} must be {accepted}{got}.",
        param=param,
    )


def _value(schema: Mapping[str, Any], random: Random, param: str) -> Any:
    try:
        return SchemaValues(schema, random).value()
    except SchemaTooLarge:
        _refuse(param, "a schema that a value of moderate size satisfies", None)


def _is_integer(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _described(tool: object) -> Mapping[str, Any]:
    found = tool.get("function") or tool.get("custom") if isinstance(tool, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _words(text: str) -> list[str]:
    return "".join(each if each.isalnum() else " " for each in text.lower()).split()


def _pieces(text: str) -> list[str]:
    return [text[start : start + _TOKEN] for start in range(0, len(text), _TOKEN)]
