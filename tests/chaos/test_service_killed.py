"""The service is killed: only the telemetry of the last moment, not yet exported, is lost."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx2

from ledger.account import RunRecord
from ledger.backends import reconcile
from ledger.load import steady_load
from stack.local_http import local_client
from tests.chaos.outages import hanging, killed
from tests.chaos.turns import all_found, risen, tokens, turns
from tests.running import Stack, settled
from tests.stack.turns import MODEL, QUESTION, http_turn

# One export interval (0.2 s, for metrics 1 s), and once the time to detect that the Collector is
# unreachable, with a large margin.
_IN_HAND_SECONDS = 3.0
_NS = 1_000_000_000
_RATE = 200.0
_PATIENCE_SECONDS = 30.0
_CUT = 3


def test_service_killed_while_the_collector_hangs_loses_nothing(stack: Stack) -> None:
    """Everything that clients saw of it is on disk; its successor sends that, with the last sums of
    its metrics."""
    before = settled(lambda: tokens(stack))
    with hanging(stack, "collector"):
        given = turns(stack)
        time.sleep(_IN_HAND_SECONDS)
        killed(stack, "app")
    all_found(stack, given)
    risen(stack, before, given)


def test_service_killed_in_the_middle_of_answers_keeps_those_that_it_gave(stack: Stack) -> None:
    before = settled(lambda: tokens(stack))
    given = turns(stack, rounds=1)
    time.sleep(_IN_HAND_SECONDS)
    # Fixed before they start: they take less than a second.
    pid = stack.pid("app")
    with _cut_off(stack):
        killed(stack, "app", pid)
    given += turns(stack, rounds=1)
    all_found(stack, given)
    risen(stack, before, given)


@contextmanager
def _cut_off(stack: Stack) -> Iterator[None]:
    """Start responses; the newest of them has not ended in the block."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "stream": True}
    with ExitStack() as open_ones:
        client = open_ones.enter_context(local_client(stack.facts["APP_URL"]))
        streams = [
            open_ones.enter_context(client.stream("POST", "/v1/chat/completions", json=body))
            for _ in range(_CUT)
        ]
        yield
        # On a busy machine the first ones may have ended before the last one started.
        assert not all(_is_ended(stream) for stream in streams)


def _is_ended(stream: httpx2.Response) -> bool:
    try:
        return any("[DONE]" in line for line in stream.iter_lines())
    except httpx2.HTTPError:
        return False


def test_process_that_is_killed_loses_only_the_last_moment(stack: Stack) -> None:
    """Items are counted by the process that requested them."""
    with steady_load(stack.facts, rate=_RATE) as load:
        http_turn(stack.facts)
        time.sleep(_IN_HAND_SECONDS)
        moment = time.time_ns() - round(_IN_HAND_SECONDS * _NS)
        load.kill()
        in_hand = _made_since(load, moment)
        load.start()
        http_turn(stack.facts)
    account = reconcile(stack.facts, load, _PATIENCE_SECONDS)
    assert in_hand
    assert len(load.certain()) > len(in_hand)
    assert set(account.spans.lost_numbers) <= in_hand
    assert set(account.logs.lost_numbers) <= in_hand
    assert account.increments.lost <= len(in_hand)
    assert account.corrupted == account.duplicates == 0, account


def _made_since(load: RunRecord, moment: int) -> set[int]:
    return {number for number, created in load.created.items() if created >= moment}
