"""A flood of refused requests, over real sockets, must not become a flood of log lines."""

import asyncio
import logging
import time
from collections.abc import Callable

import pytest
from websockets.asyncio.client import connect

from app.domain.errors import InvalidRequest
from app.transport.refusal_log import LIMIT, RefusalLog, ServerLog
from tests.memory import Memory
from tests.unit.transport.live import Live, live

_MESSAGES = 3000
_PER_SECOND = 2
_AT_ONCE = _PER_SECOND * 10


def _lines(memory: Memory, wanted: Callable[[str], bool]) -> list[int]:
    """Return of each wanted line the number of those left out before it."""
    records = [each.log_record for each in memory.logs if wanted(str(each.log_record.body))]
    return [int(str((each.attributes or {}).get("left_out", 0))) for each in records]


def _most(began: float) -> float:
    """Return how many lines a reason may have since then; a slow machine takes its time."""
    return _AT_ONCE + _PER_SECOND * (time.monotonic() - began) + 1


def _left_out(memory: Memory) -> float:
    return memory.value("chatscope.limit.reached", chatscope__limit=LIMIT)


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_flood_of_refused_socket_messages_leaves_few_lines(memory: Memory) -> None:
    began = time.monotonic()
    async with (
        live(memory, max_refusal_lines=_PER_SECOND) as service,
        connect(service.socket_url, proxy=None) as socket,
    ):
        for _ in range(_MESSAGES // 100):
            for _ in range(100):
                await socket.send("{")
            for _ in range(100):
                await socket.recv()
    lines = _lines(memory, lambda body: body == "socket message refused")
    assert _AT_ONCE <= len(lines) <= _most(began)
    assert len(lines) + _left_out(memory) == _MESSAGES
    assert sum(lines) <= _left_out(memory)


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_flood_of_refused_requests_leaves_few_lines(memory: Memory) -> None:
    began = time.monotonic()
    async with live(memory, max_refusal_lines=_PER_SECOND) as service:
        await _pipeline(service, _MESSAGES)
    lines = _lines(memory, lambda body: body == "request refused")
    access = _lines(memory, lambda body: body.endswith(" 404"))
    assert _AT_ONCE <= len(lines) <= _most(began)
    assert len(access) <= _most(began)
    # Without a handler for it, uvicorn has no access log.
    both = 2 if logging.getLogger("uvicorn.access").hasHandlers() else 1
    assert len(lines) + len(access) + _left_out(memory) == both * _MESSAGES


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_flood_of_garbage_leaves_few_lines(memory: Memory) -> None:
    began = time.monotonic()
    async with live(memory, max_refusal_lines=_PER_SECOND) as service:
        for _ in range(300):
            async with service.raw() as raw:
                await raw.send("garbage\r\n\r\n")
                await raw.response()
    for text in ("request refused", "Invalid HTTP request received."):
        lines = _lines(memory, lambda body, text=text: body == text)  # type: ignore[misc]
        assert len(lines) <= _most(began)


async def _pipeline(service: Live, count: int) -> None:
    async with service.raw() as raw:
        for _ in range(count // 50):
            await raw.send("GET /nope HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 50)
            for _ in range(50):
                status, _, _ = await raw.response()
                assert status == 404


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_next_line_has_the_number_of_those_left_out() -> None:
    clock, reached = _Clock(), list[str]()
    log = RefusalLog(1, reached.append, clock)
    admitted = [log.admit("a") for _ in range(15)]
    assert admitted == [{}] * 10 + [None] * 5
    assert log.admit("b") == {}  # another reason is not affected
    clock.now = 1.0
    assert log.admit("a") == {"left_out": 5}
    assert log.admit("a") is None
    clock.now = 1000.0
    assert [log.admit("a") for _ in range(11)] == [{"left_out": 1}] + [{}] * 9 + [None]
    assert reached == [LIMIT] * 7


def test_a_limit_counts_although_its_line_is_left_out() -> None:
    reached: list[str] = []
    log = RefusalLog(1, reached.append, _Clock())
    for _ in range(12):
        log.log("request refused", InvalidRequest("no", code="c", limit="body_bytes"))
    assert reached.count("body_bytes") == 12
    assert reached.count(LIMIT) == 2


def test_reasons_cannot_fill_the_memory() -> None:
    log = RefusalLog(1, lambda _: None, _Clock())
    admitted = [log.admit(f"reason {number}") for number in range(1000)]
    assert admitted.count({}) == 200 + 10


def test_lines_of_the_server_about_other_things_pass(caplog: pytest.LogCaptureFixture) -> None:
    log = ServerLog("uvicorn.error", RefusalLog(1, lambda _: None, _Clock()))
    with caplog.at_level(logging.INFO, "uvicorn.error"):
        for _ in range(20):
            log.info('%s - "WebSocket %s" [accepted]', "x", "/ws/chat")
            log.info('%s - "%s %s HTTP/%s" %d', "x", "GET", "/a 404", "1.1", 200)
            log.error("failed")
            log.info('%s - "WebSocket %s" 403', "x", "/ws/chat")
            log.info('%s - "WebSocket %s" %d', "x", "/ws/chat", 404)
    texts = [record.getMessage() for record in caplog.records]
    assert texts.count('x - "WebSocket /ws/chat" [accepted]') == 20
    assert texts.count('x - "GET /a 404 HTTP/1.1" 200') == 20
    assert texts.count("failed") == 20
    assert texts.count('x - "WebSocket /ws/chat" 403') == 10
    assert texts.count('x - "WebSocket /ws/chat" 404') == 10
    assert {record.filename for record in caplog.records} == {"test_refusal_log.py"}


@pytest.mark.anyio
async def test_few_refusals_are_all_logged(memory: Memory) -> None:
    async with live(memory) as service:
        await asyncio.gather(*(_pipeline(service, 50) for _ in range(2)))
    assert len(_lines(memory, lambda body: body == "request refused")) == 100
    assert _left_out(memory) == 0
