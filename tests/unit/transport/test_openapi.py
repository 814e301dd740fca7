"""The OpenAPI description: valid, complete, and in agreement with the code."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from app.domain.errors import InvalidRequest
from app.main import create_app
from app.transport.errors import _endpoints
from app.transport.openapi import description
from app.wire.errors import HttpError, error_object
from app.wire.formats import FORMATS
from app.wire.request import completion_request
from tests.memory import Memory
from tests.unit.serving import quick

_LIMITED = quick(max_request_messages=3)
_DESCRIPTION = description(_LIMITED)


def _schema(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", **_DESCRIPTION})


def test_description_is_valid_openapi() -> None:
    validate(_DESCRIPTION)


def test_description_is_served_without_a_key() -> None:
    memory = Memory()
    app = create_app(_LIMITED, providers=memory.providers)
    with TestClient(app, base_url="http://localhost") as client:
        response = client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == _DESCRIPTION


def test_every_endpoint_is_described() -> None:
    app = create_app(_LIMITED, providers=Memory().providers)
    served = {each for route in app.router.routes for each in _endpoints(route)}
    described = {
        f"{method.upper()} {path}"
        for path, operations in _DESCRIPTION["paths"].items()
        for method in operations
    }
    assert described | {"WS /ws/chat"} == served


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, True),
        ({"messages": [{"role": "user"}], "stream": None, "model": None, "other": 1}, True),
        ({"messages": [{"role": "user"}] * 3}, True),
        ({"messages": [{"role": "user"}] * 4}, False),
        ({"messages": []}, False),
        ({"messages": [{"role": ""}]}, False),
        ({"messages": ["text"]}, False),
        ({"messages": [{"role": "user"}], "stream": 1}, False),
        ({"messages": [{"role": "user"}], "stream_options": {"include_usage": 1}}, False),
        ({"messages": [{"role": "user"}], "model": "m" * 201}, False),
        ({}, False),
    ],
)
def test_schema_of_a_chat_completion_accepts_what_the_service_accepts(
    body: dict[str, Any], accepted: bool
) -> None:
    assert _schema("ChatCompletionRequest").is_valid(body) is accepted
    try:
        completion_request(body, _LIMITED.request_limits)
    except InvalidRequest:
        assert not accepted
    else:
        assert accepted


def test_errors_have_the_described_form() -> None:
    error = HttpError(400, "text", code="invalid_request")
    assert _schema("Error").is_valid(error_object(error, "t"))
    assert _schema("MessagesError").is_valid(FORMATS["/v1/messages"].error(error, "t"))
    assert not _schema("Error").is_valid(json.loads("{}"))
