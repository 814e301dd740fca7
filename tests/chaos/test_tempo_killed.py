"""Tempo is killed under load: every span that it or the Collector acknowledged is found."""

import os
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ledger import otlp
from stack.docker import DockerStack
from stack.secrets import telemetry_headers
from stack.waiting import poll_until
from tests.chaos.outages import away, killed
from tests.running import PATIENCE_SECONDS, Stack, tempo_otlp

# A request every 20 ms, for twice the time that Tempo keeps spans in memory only, and longer than
# it delays its response.
_PAUSE_SECONDS = 0.02
_REQUESTS = 250
# A request for each span would exceed the time limit.
_PER_TRACE = 50

# By trace.
_Spans = dict[str, set[str]]


class _Load:
    """Sends requests of one span each, whether or not they get responses."""

    def __init__(self, sender: otlp.Sender) -> None:
        self._sender = sender
        self._calls: list[tuple[Span, Any]] = []
        self._trace_id = b""

    def run(self) -> None:
        for number in range(_REQUESTS):
            self._begin(number)
            time.sleep(_PAUSE_SECONDS)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Send further requests until the end of the block."""
        over = threading.Event()

        def run() -> None:
            for number in count():
                self._begin(number)
                if over.wait(_PAUSE_SECONDS):
                    return

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _begin(self, number: int) -> None:
        if number % _PER_TRACE == 0:
            self._trace_id = secrets.token_bytes(16)
        span = otlp.span(self._trace_id, "work")
        span.span_id = secrets.token_bytes(8)
        self._calls.append((span, self._sender.begin(otlp.spans("test-tempo-killed", span))))

    def acknowledged(self) -> _Spans:
        """Return the acknowledged spans so far."""
        # A failed call has a code, too; a pending one has none, and asking for it would block.
        done = [(span, call) for span, call in self._calls if call.done()]
        found: _Spans = defaultdict(set)
        for span, call in done:
            if call.code() is grpc.StatusCode.OK:
                found[span.trace_id.hex()].add(span.span_id.hex())
        return found

    def all_acknowledged(self) -> _Spans:
        assert [call.code() for _, call in self._calls] == [grpc.StatusCode.OK] * len(self._calls)
        return self.acknowledged()


@contextmanager
def _load(stack: Stack, address: str) -> Iterator[_Load]:
    # Tempo itself asks for the tenant, where it has several.
    headers = {**telemetry_headers(stack.facts), "x-scope-orgid": stack.facts["TENANT"]}
    with otlp.sender(address, headers) as sender:
        yield _Load(sender)


def _all_found(stack: Stack, wanted: _Spans) -> None:
    assert wanted

    def none_missing() -> bool:
        missing = [each for trace, spans in wanted.items() for each in spans - _found(stack, trace)]
        assert not missing
        return True

    poll_until(none_missing, f"the spans of {len(wanted)} traces in Tempo", PATIENCE_SECONDS)


def _found(stack: Stack, trace: str) -> set[str]:
    return {span.span_id for span in stack.backends.tempo_trace(trace) or []}


def test_spans_acknowledged_by_tempo_survive_its_kill(stack: Stack) -> None:
    with _load(stack, _otlp_socket(stack)) as load:
        load.run()
        killed(stack, "tempo")
        wanted = load.acknowledged()
    _all_found(stack, wanted)


def test_block_that_a_kill_left_incomplete_is_repaired_and_found(stack: Stack) -> None:
    """Simulate a kill while it writes its meta.json."""
    with _load(stack, _otlp_socket(stack)) as load:
        load.run()
        with _data(stack) as data, ExitStack() as outage:
            # Without new spans it may complete its open blocks before the kill.
            with load.going_on():
                poll_until(lambda: all(_open_blocks(data)), "open blocks", PATIENCE_SECONDS)
                outage.enter_context(away(stack, "tempo"))
            wanted = load.acknowledged()
            blocks = _open_blocks(data)
            for half in chain(*blocks):
                half.write_text("")
    assert all(blocks)
    _all_found(stack, wanted)


def _open_blocks(data: Path) -> list[list[Path]]:
    """Return the meta.json of blocks in the write-ahead log, and in the generator."""
    patterns = ("wal/*+*/meta.json", "generator/traces/*/*+*/meta.json")
    return [list(data.glob(pattern)) for pattern in patterns]


def _otlp_socket(stack: Stack) -> str:
    """Return Tempo's address for spans, in the form of `ledger.otlp`."""
    if isinstance(stack.running, DockerStack):
        return f"unix:/proc/{stack.pid('tempo')}/root/sockets/tempo-otlp.sock"
    return tempo_otlp(stack.facts)


@contextmanager
def _data(stack: Stack) -> Iterator[Path]:
    """Return Tempo's data directory, also while it is down."""
    inside = "/data" if isinstance(stack.running, DockerStack) else stack.facts["DATA_DIR"]
    directory = os.open(f"/proc/{stack.pid('tempo')}/root{inside}/tempo", os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{directory}")
    finally:
        os.close(directory)


def test_spans_acknowledged_by_the_collector_survive_two_kills_of_tempo(stack: Stack) -> None:
    """The second kill happens during the delivery of the first one's backlog."""
    with _load(stack, stack.facts["OTLP_URL"]) as load:
        load.run()
        with away(stack, "tempo"):
            load.run()
        load.run()
        killed(stack, "tempo")
        wanted = load.all_acknowledged()
    _all_found(stack, wanted)
