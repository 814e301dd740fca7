"""Loki is killed after many concurrent writes of one service's lines: all are found."""

from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex

from ledger import otlp
from stack.secrets import telemetry_headers
from stack.waiting import poll_until
from tests.chaos.outages import killed
from tests.chaos.watching import lines_of
from tests.running import PATIENCE_SECONDS, Stack

_SENDERS = 10
# Batches. With ten concurrent requests, one to four batches were lost after each of three kills.
_REQUESTS = 300
_LINES = 5


def test_lines_of_many_senders_outlive_a_kill_of_loki(stack: Stack) -> None:
    service = f"test-loki-killed-{token_hex(4)}"

    def all_found() -> bool:
        assert lines_of(stack, service) == _SENDERS * _REQUESTS * _LINES
        return True

    with (
        otlp.sender(stack.facts["OTLP_URL"], telemetry_headers(stack.facts)) as sender,
        ThreadPoolExecutor(_SENDERS) as pool,
    ):

        def send(number: int) -> None:
            for request in range(_REQUESTS):
                lines = [otlp.line(f"{number} {request} {line}") for line in range(_LINES)]
                sender.send(otlp.lines(service, *lines))

        list(pool.map(send, range(_SENDERS)))
    poll_until(all_found, "the lines in Loki", PATIENCE_SECONDS)
    killed(stack, "loki")
    poll_until(all_found, "the lines in Loki after its kill", PATIENCE_SECONDS)
