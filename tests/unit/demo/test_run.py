"""`python -m demo` against a live service, in a process of its own, because of locust."""

import asyncio
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.domain.provider import ProviderError
from stack.waiting import poll_until
from tests.elapsed import takes_at_most
from tests.memory import Memory
from tests.unit.scripted import END, MODEL, Scripted
from tests.unit.transport.live import live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
_ROOT = Path(__file__).parents[3]
# A loaded machine needs time to import locust.
_PATIENCE_SECONDS = 120
# As in demo/shared.py, whose import would patch sockets.
_LAST_ANSWERS_SECONDS = 5.0
# The newcomers need longest to send all of their requests, four invalid ones.
_QUESTIONS = 300
# Each test sets the limit that ends the run. A proxy would prevent all connections.
_FAST = {
    "DEMO_PACE": "100",
    "DEMO_SPAWN_RATE": "100",
    "DEMO_SECONDS": "3600",
    "DEMO_QUESTIONS": "1000000",
    "OTEL_SDK_DISABLED": "true",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
}
_ROW = re.compile(r"^(HTTP|SSE|WebSocket)  +(\S.*?)  +(\d+)  +(\d+)  ", re.MULTILINE)


class Pliant(Scripted):
    """A provider for a model name that should not exist."""

    models = ("no-such-model",)


@dataclass(frozen=True)
class Demo:
    """A completed run."""

    code: int | None
    output: str
    errors: str

    @property
    def rows(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Count and failures by transport and kind of request."""
        found = _ROW.findall(self.output)
        return {(way, what): (int(count), int(failed)) for way, what, count, failed in found}


async def _start(url: str, **variables: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "demo"),
        cwd=_ROOT,
        env={"CHATSCOPE_URL": url, **_FAST, **variables},
        stdout=PIPE,
        stderr=PIPE,
    )


async def _ended(process: Process) -> Demo:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        output, errors = await process.communicate()
    return Demo(process.returncode, output.decode(), errors.decode())


@pytest.fixture(scope="module")
async def whole_run(anyio_backend: str) -> tuple[Demo, Memory]:
    memory = Memory()
    async with live(memory) as server:
        url = f"http://{server.address}"
        return await _ended(await _start(url, DEMO_QUESTIONS=str(_QUESTIONS))), memory


async def test_users_of_every_kind_get_their_responses(whole_run: tuple[Demo, Memory]) -> None:
    demo, _ = whole_run
    assert demo.code == 0, demo.output + demo.errors
    # Outside the peak of cost, one of these is missing.
    assert set(demo.rows) - {("SSE", "long report"), ("SSE", "short report")} == {
        ("HTTP", "quick question"),
        ("HTTP", "question with tools"),
        ("HTTP", "result of tools"),
        ("HTTP", "ticket as JSON"),
        ("HTTP", "search"),
        ("HTTP", "one of a burst"),
        ("HTTP", "unknown model"),
        ("HTTP", "bad temperature"),
        ("SSE", "streamed"),
        ("SSE", "long conversation"),
        ("SSE", "disconnect"),
        ("SSE", "no messages"),
        ("WebSocket", "connection"),
        ("WebSocket", "conversation"),
        ("WebSocket", "cancel"),
        ("WebSocket", "unknown type"),
    }
    assert all(failed == 0 for _, failed in demo.rows.values())
    assert demo.errors == ""


async def test_it_ends_after_exactly_the_questions_allowed(whole_run: tuple[Demo, Memory]) -> None:
    demo, memory = whole_run
    told = {kind: count for kind, (count, _) in demo.rows.items() if kind[1] != "connection"}
    assert sum(told.values()) == _QUESTIONS
    # What is no question has no span of a message: it is refused in the connection's own. The
    # temperature is refused by the model.
    answered = [s for s in memory.spans if s.name.startswith(("chat ", "embeddings "))]
    refused = {"unknown model", "no messages", "unknown type"}
    asked = sum(count for (_, what), count in told.items() if what not in refused)
    assert len(answered) == asked


async def test_failures_are_printed_with_code_and_trace_and_a_run_without_response_fails(
    memory: Memory,
) -> None:
    broken = Scripted(ProviderError("server_error", "It failed."))
    async with live(memory, broken) as server:
        bounds = {"DEMO_USERS": "3", "DEMO_QUESTIONS": "6", "DEMO_MODELS": MODEL}
        process = await _start(f"http://{server.address}", **bounds)
        demo = await _ended(process)
    assert demo.code == 1
    failed = re.findall(r"^failed: (\w+), .*: server_error, trace (\w{32})$", demo.output, re.M)
    assert {way for way, _ in failed} == {"HTTP", "SSE", "WebSocket"}
    traces = {f"{span.context.trace_id:032x}" for span in memory.spans}
    assert {trace for _, trace in failed} <= traces
    assert demo.errors == ""


async def test_an_answer_where_a_refusal_was_due_is_a_failure(memory: Memory) -> None:
    async with live(memory, Pliant("a", END)) as server:
        # The only limit of this run is its time.
        process = await _start(
            f"http://{server.address}", DEMO_SECONDS="2", DEMO_MODELS="no-such-model"
        )
        assert process.stdout
        await process.stdout.readline()  # it begins
        # Including the last responses and the end of the process.
        with takes_at_most(2.0, factor=3.0):
            demo = await _ended(process)
    assert "failed: HTTP, unknown model: no_model_not_found\n" in demo.output


async def _start_pending(url: str, provider: Scripted) -> Process:
    """Start a demo of three questions, and wait until the model has all of them."""
    bounds = {"DEMO_USERS": "3", "DEMO_QUESTIONS": "3", "DEMO_MODELS": MODEL}
    process = await _start(url, **bounds)
    await asyncio.to_thread(poll_until, lambda: len(provider.requests) == 3, "three questions")
    return process


async def test_last_answers_count_however_long_they_take(memory: Memory) -> None:
    gate = asyncio.Event()
    provider = Scripted(gate, "a", END)
    async with live(memory, provider) as server:
        process = await _start_pending(f"http://{server.address}", provider)
        # Longer than a stopped demo waits.
        await asyncio.sleep(_LAST_ANSWERS_SECONDS + 1)
        gate.set()
        demo = await _ended(process)
    assert demo.code == 0, demo.output + demo.errors
    assert demo.rows == {
        ("HTTP", "quick question"): (1, 0),
        ("SSE", "streamed"): (1, 0),
        ("WebSocket", "connection"): (1, 0),
        ("WebSocket", "conversation"): (1, 0),
    }


async def test_questions_cut_off_by_a_signal_count_as_failures(memory: Memory) -> None:
    provider = Scripted(asyncio.Event())
    async with live(memory, provider) as server:
        process = await _start_pending(f"http://{server.address}", provider)
        process.send_signal(signal.SIGTERM)
        with takes_at_most(_LAST_ANSWERS_SECONDS, factor=2.0):
            demo = await _ended(process)
    assert {kind: row for kind, row in demo.rows.items() if kind[1] != "connection"} == {
        ("HTTP", "quick question"): (1, 1),
        ("SSE", "streamed"): (1, 1),
        ("WebSocket", "conversation"): (1, 1),
    }
    assert demo.output.count(": client_stopped\n") == 6  # as each happens, and in the summary


async def test_stopped_demo_prints_its_summary_and_succeeds(memory: Memory) -> None:
    async with live(memory) as server:
        process = await _start(f"http://{server.address}")
        assert process.stdout
        await process.stdout.readline()
        await asyncio.to_thread(
            poll_until,
            lambda: any(span.name.startswith("chat ") for span in memory.spans),
            "answers",
        )
        process.send_signal(signal.SIGTERM)
        demo = await _ended(process)
    assert demo.code == 0, demo.output + demo.errors
    assert demo.rows


async def test_model_that_is_not_served_is_reported_with_the_available_ones(memory: Memory) -> None:
    async with live(memory) as server:
        process = await _start(f"http://{server.address}", DEMO_MODELS="simulated-1,dearest")
        demo = await _ended(process)
    assert (demo.code, demo.output) == (1, "")
    assert demo.errors == "DEMO_MODELS: dearest not served; available: simulated-1\n"


async def test_a_model_that_may_cost_money_is_asked_only_by_name(memory: Memory) -> None:
    paid: dict[str, Any] = {"openai_models": ("dear",), "openai_base_url": "http://127.0.0.1:9"}
    async with live(memory, **paid) as server:
        demo = await _ended(await _start(f"http://{server.address}", DEMO_QUESTIONS="1"))
    assert demo.output.splitlines()[0].endswith("models: simulated-1")


async def test_unreachable_service_is_reported() -> None:
    demo = await _ended(await _start("http://127.0.0.1:9"))
    assert (demo.code, demo.output) == (1, "")
    assert demo.errors == (
        "CHATSCOPE_URL=http://127.0.0.1:9 does not respond (client_connection): is Chatscope up?\n"
    )


async def test_invalid_settings_end_it_before_the_first_request() -> None:
    demo = await _ended(await _start("nowhere", DEMO_USERS="0"))
    assert (demo.code, demo.output) == (2, "")
    assert [line.partition("=")[0] for line in demo.errors.splitlines()] == [
        "CHATSCOPE_URL",
        "DEMO_USERS",
    ]


async def test_setting_of_telemetry_that_is_invalid_is_a_wrong_setting(memory: Memory) -> None:
    async with live(memory) as server:
        file = {"CHATSCOPE_OTLP_HEADERS_FILE": "/nowhere"}
        demo = await _ended(await _start(f"http://{server.address}", **file))
    assert (demo.code, demo.output) == (2, "")
    assert demo.errors.startswith("CHATSCOPE_OTLP_HEADERS_FILE must be")
