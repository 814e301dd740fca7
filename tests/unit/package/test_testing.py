"""The helpers for the tests of other applications."""

import logging
import subprocess
import sys
from typing import Any

import pytest
from loguru import logger
from opentelemetry import metrics, trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import chatscope
from chatscope import configuration
from chatscope.guard import guarded
from chatscope.testing import containing_errors, recorded
from stack.facts import ROOT


async def _item(request: Request) -> PlainTextResponse:
    logger.bind(item=request.path_params["id"]).info("item shown")
    return PlainTextResponse("x")


def _create_app() -> Starlette:
    chatscope.configure(service_name="shop")
    return chatscope.instrument(Starlette(routes=[Route("/items/{id}", _item)]))


@pytest.mark.parametrize("attempt", [1, 2])
def test_application_is_recorded_from_zero_each_time(
    attempt: int, caplog: pytest.LogCaptureFixture
) -> None:
    with recorded() as memory, TestClient(_create_app()) as client:
        client.get("/items/42")
    assert memory.span("GET /items/{id}").name
    assert (memory.log("item shown").log_record.attributes or {})["item"] == "42"
    assert memory.value("http.server.request.duration", http__route="/items/{id}") == 1
    assert caplog.messages == []
    logging.getLogger("shop").error("after the block")
    assert "after the block" not in [each.log_record.body for each in memory.logs]


def test_telemetry_of_the_process_is_the_same_afterwards() -> None:
    before = configuration._process.telemetry
    with recorded():
        assert configuration._process.telemetry is not before
    assert configuration._process.telemetry is before


def test_missing_and_repeated_items_fail_with_what_there_is() -> None:
    with recorded() as memory:
        tracer = memory.providers.tracer_provider.get_tracer("t")
        for name in ("one", "two", "two"):
            tracer.start_span(name).end()
    with pytest.raises(AssertionError, match="0 spans 'three' among"):
        memory.span("three")
    with pytest.raises(AssertionError, match="2 spans 'two' among"):
        memory.span("two")
    with pytest.raises(AssertionError, match="0 records 'x' among"):
        memory.log("x")


def test_shutdown_of_the_application_ends_no_memory() -> None:
    with recorded() as memory:
        for _ in range(2):
            with TestClient(_create_app()) as client:
                client.get("/items/42")
            chatscope.shutdown()
    assert [span.name for span in memory.spans] == ["GET /items/{id}"] * 2


def test_framework_that_instruments_itself_makes_no_second_span() -> None:
    with recorded() as memory, TestClient(_create_app()) as client:
        client.get("/items/42")
        # As FastAPI does.
        trace.get_tracer_provider().get_tracer("fastapi").start_span("GET /items/{id}").end()
        metrics.get_meter_provider().get_meter("fastapi").create_counter("requests").add(1)
    assert memory.span("GET /items/{id}")
    assert memory.points("requests") == []


@pytest.mark.parametrize("option", [{"log_level": "loud"}, {"colour": "red"}, {"span_queue": 0}])
def test_invalid_options_are_named(option: dict[str, Any]) -> None:
    with pytest.raises(chatscope.SettingsError, match=next(iter(option))), recorded(**option):
        pass


def test_errors_of_the_package_are_raised_in_tests(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(LookupError), guarded("testing"):
        raise LookupError
    with containing_errors(), guarded("testing containment"):
        raise LookupError
    assert caplog.messages == ["telemetry failed while testing containment"]


@pytest.mark.slow
def test_global_api_is_recorded_as_well() -> None:
    code = """
from opentelemetry import metrics, trace
from chatscope.testing import recorded
counter = metrics.get_meter("shop").create_counter("orders")
for attempt in range(2):
    with recorded() as memory:
        trace.get_tracer("shop").start_span("by the API").end()
        counter.add(2)
    assert memory.span("by the API")
    assert memory.value("orders") == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
