"""Every case of the table, through the service on a real socket, with a real client."""

import asyncio
import logging

import pytest

from app.main import create_app
from tests.memory import Memory
from tests.unit.conformance import table
from tests.unit.conformance.cases import Case, Client
from tests.unit.conformance.clients import talk
from tests.unit.conformance.invariant import Spans, answered, assert_recorded_once
from tests.unit.conformance.scripts import Stage
from tests.unit.scripted import catalog_of
from tests.unit.serving import quick, serving

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


async def _play(case: Case, memory: Memory, spans: Spans, stage: Stage) -> str:
    """Serve the case's provider to the case's client; what it saw."""
    async with case.script.provider(stage) as provider:
        catalog = catalog_of(provider, stall_seconds=case.stall_seconds)
        app = create_app(
            quick(), catalog=catalog, providers=memory.providers, shutdown_with_app=False
        )
        stopping = asyncio.Event()
        async with serving(app) as server:
            talking = asyncio.create_task(talk(case, server, stage, stopping.set))
            if case.client is Client.STAYS:
                await stopping.wait()
                await app.state.admission.close(0)
            sees = await talking
            await answered(spans)
    app.state.telemetry.shutdown()
    return sees


async def _check(
    case: Case,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("app.providers.stream_guard.CLOSING_SECONDS", 0.2)
    if case.broken:
        monkeypatch.setattr(case.broken, _breaks)
    spans = Spans()
    memory.providers.tracer_provider.add_span_processor(spans)
    # None of them may hang, whatever does.
    with caplog.at_level(logging.WARNING, "opentelemetry"):
        async with asyncio.timeout(30):
            sees = await _play(case, memory, spans, Stage())
    assert sees == case.sees
    assert_recorded_once(memory, spans, case)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("opentelemetry")] == []


def _breaks(*_: object, **__: object) -> None:
    raise ZeroDivisionError("a bug of ours")


@pytest.mark.parametrize("case", table.ENDS, ids=str)
async def test_an_answer_that_ends_leaves_one_record(
    case: Case,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _check(case, memory, monkeypatch, caplog)


@pytest.mark.parametrize("case", table.FAILURES, ids=str)
async def test_a_provider_that_fails_leaves_one_record(
    case: Case,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _check(case, memory, monkeypatch, caplog)


@pytest.mark.parametrize("case", table.OUR_BUGS, ids=str)
async def test_a_bug_of_ours_leaves_one_record(
    case: Case,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _check(case, memory, monkeypatch, caplog)


@pytest.mark.parametrize("case", table.GIVEN_UP, ids=str)
async def test_an_answer_given_up_leaves_one_record(
    case: Case,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _check(case, memory, monkeypatch, caplog)


@pytest.mark.parametrize("case", table.SERVER_STOPS, ids=str)
async def test_a_server_that_stops_leaves_one_record(
    case: Case,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _check(case, memory, monkeypatch, caplog)


@pytest.mark.parametrize("case", table.BLOCKING, ids=str)
async def test_a_blocking_provider_leaves_one_record(
    case: Case,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _check(case, memory, monkeypatch, caplog)


@pytest.mark.parametrize("case", table.UPSTREAM, ids=str)
async def test_an_endpoint_leaves_one_record(
    case: Case,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _check(case, memory, monkeypatch, caplog)
