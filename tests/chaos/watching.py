"""Invariants during every fault: responses continue; and counters of the backends."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from dashboards import others
from stack.local_http import local_client
from stack.secrets import backend_client, operator
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.turns import WAYS, Turn

Way = Callable[[Mapping[str, str]], Turn]
# A response of the simulated model takes a second.
_LAST_ANSWER_SECONDS = 120.0


@contextmanager
def answers(
    facts: Mapping[str, str], ways: Collection[Way] = tuple(WAYS.values())
) -> Iterator[None]:
    """Send requests continuously, by each transport in turn; none may fail."""
    over, turns = threading.Event(), list[Turn]()
    failed: list[Exception] = []

    def ask() -> None:
        for way in cycle(ways):
            try:
                turns.append(way(facts))
            except Exception as error:
                failed.append(error)
            if over.is_set() and len(turns) + len(failed) >= len(ways):
                return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_LAST_ANSWER_SECONDS)
    assert failed == []
    assert not thread.is_alive()


def counted(url: str, name: str, /, *, auth: httpx2.Auth | None = None, **labels: str) -> float:
    """Return the sum of a counter from a component itself; Prometheus scrapes every 15 s only."""
    with local_client(url) as client:
        text = client.get("/metrics", auth=auth).raise_for_status().text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        # The parser adds this suffix to each counter's name; not all components do.
        if sample.name in (name, f"{name}_total") and labels.items() <= sample.labels.items()
    )


def of_collector(facts: Mapping[str, str], name: str, **labels: str) -> float:
    """Return the same for the Collector."""
    url = facts["COLLECTOR_METRICS_URL"].removesuffix("/metrics")
    return counted(url, name, auth=None, **labels)


def lines_discarded(facts: Mapping[str, str], reason: str) -> float:
    """Return the number of lines that Loki discarded."""
    name = others.LOKI_DISCARDED.prometheus
    return counted(facts["LOKI_URL"], name, auth=operator(facts), reason=reason)


def points_given_up(facts: Mapping[str, str]) -> float:
    """Return the points that the Collector dropped, because Prometheus never accepts them."""
    failed = others.POINTS_THROUGH.send_failed.prometheus
    return of_collector(facts, failed, exporter=others.TO_PROMETHEUS)


@contextmanager
def rises(read: Callable[[], float], by: float) -> Iterator[None]:
    """Assert that a value rises by this amount during and after the block."""
    before = read()
    yield

    def exactly() -> bool:
        assert read() - before == by
        return True

    poll_until(exactly, f"a count to rise by {by:g}", PATIENCE_SECONDS)


def lines_of(stack: Stack, service: str) -> int:
    """Return the number of a service's lines in Loki in the last hours."""
    query = f'sum(count_over_time({{service_name="{service}"}}[3h]))'
    with backend_client(stack.facts, "LOKI_URL") as client:
        answer = client.get("/loki/api/v1/query", params={"query": query})
    found = answer.raise_for_status().json()["data"]["result"]
    return sum(int(row["value"][1]) for row in found)
