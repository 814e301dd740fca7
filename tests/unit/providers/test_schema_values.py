"""Values for JSON schemas of clients: in bounded time, whatever the schema is."""

import json
import time
from random import Random
from typing import Any

import pytest

from app.domain.provider import ProviderError
from app.domain.request import ChatRequest
from app.providers import simulated_output
from app.providers.schema_values import SchemaTooLarge, SchemaValues

_TREE = {"type": "array", "minItems": 100, "items": {"$ref": "#"}}
_ENDLESS = {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}
# CPU of one value, where the unbounded one would take minutes, or all memory.
_SECONDS = 2.0


def _value(schema: dict[str, Any]) -> Any:
    return SchemaValues(schema, Random(1)).value()  # noqa: S311


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["array", {}], "items": 5},
        {"type": {"a": 1}},
        {"type": [[], {}]},
        {"type": "object", "required": 5, "properties": []},
        {"type": "object", "required": 0.5},
        {"type": "integer", "minimum": 10**400},
        {"type": "integer", "maximum": -(10**400), "multipleOf": 10**400},
        {"type": "number", "minimum": 1e308, "maximum": 1e-300, "multipleOf": 1e-9},
        {"type": "array", "minItems": -5, "maxItems": -1, "prefixItems": {}},
        {"anyOf": [5, None], "allOf": [[], "x"], "$ref": "#/a/b"},
    ],
)
def test_keywords_with_invalid_values_are_ignored(schema: dict[str, Any]) -> None:
    json.dumps(_value(schema), allow_nan=False)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "minProperties": 10**9},
        {**_TREE, "items": {**_TREE, "items": {**_TREE, "items": _TREE}}},
        _ENDLESS,
        {"type": "array", "minItems": 100, "items": {"const": "x" * 100_000}},
        {"anyOf": [{"type": "null"}] * 100_000},
    ],
)
def test_schema_that_needs_too_much_is_refused_soon(schema: dict[str, Any]) -> None:
    started = time.thread_time()
    with pytest.raises(SchemaTooLarge):
        _value(schema)
    assert time.thread_time() - started < _SECONDS


def test_refusal_of_a_schema_names_its_parameter() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": _ENDLESS}}
    with pytest.raises(ProviderError) as refused:
        simulated_output.tool_calls([tool], Random(1))  # noqa: S311
    assert refused.value.param == "tools"
    body = {
        "messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": _ENDLESS}},
    }
    request = ChatRequest(model="m", body=body)
    with pytest.raises(ProviderError) as refused:
        simulated_output.json_output(request, "x", Random(1))  # noqa: S311
    assert refused.value.param == "response_format.json_schema.schema"
