"""What holds during every fault: answers go on; and what the stores themselves count."""

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
# An answer of the simulated model takes a second.
_LAST_ANSWER_SECONDS = 30.0


@contextmanager
def answers(
    facts: Mapping[str, str], ways: Collection[Way] = tuple(WAYS.values())
) -> Iterator[None]:
    """Somebody asks all the time, by each way in turn; not one answer fails."""
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
    """The sum of a counter in a part's own metrics, now: Prometheus asks only every 15 s."""
    with local_client(url) as client:
        text = client.get("/metrics", auth=auth).raise_for_status().text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        # The parser ends each counter's name so, as not all parts do.
        if sample.name in (name, f"{name}_total") and labels.items() <= sample.labels.items()
    )


def of_collector(facts: Mapping[str, str], name: str, **labels: str) -> float:
    """The same, of the Collector."""
    url = facts["COLLECTOR_METRICS_URL"].removesuffix("/metrics")
    return counted(url, name, auth=None, **labels)


def lines_discarded(facts: Mapping[str, str], reason: str) -> float:
    """By Loki."""
    name = others.LOKI_DISCARDED.prometheus
    return counted(facts["LOKI_URL"], name, auth=operator(facts), reason=reason)


def points_given_up(facts: Mapping[str, str]) -> float:
    """By the Collector, since Prometheus will never take them."""
    failed = others.POINTS_THROUGH.send_failed.prometheus
    return of_collector(facts, failed, exporter=others.TO_PROMETHEUS)


@contextmanager
def rises(read: Callable[[], float], by: float) -> Iterator[None]:
    """Over the block, and what it leads to."""
    before = read()
    yield

    def exactly() -> bool:
        assert read() - before == by
        return True

    poll_until(exactly, f"a count to rise by {by:g}", PATIENCE_SECONDS)


def lines_of(stack: Stack, service: str) -> int:
    """All that Loki has of a service in the last hours."""
    query = f'sum(count_over_time({{service_name="{service}"}}[3h]))'
    with backend_client(stack.facts, "LOKI_URL") as client:
        answer = client.get("/loki/api/v1/query", params={"query": query})
    found = answer.raise_for_status().json()["data"]["result"]
    return sum(int(row["value"][1]) for row in found)
