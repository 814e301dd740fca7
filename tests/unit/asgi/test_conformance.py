"""Our middleware records what the stock one does, but for the listed differences."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from tests.unit.asgi.cases import Case, generate
from tests.unit.asgi.differences import DIFFERENCES, Found, differing, explanation, route
from tests.unit.asgi.recorded import Facts, ours, record, stock

_CASES = 400

Recorded = list[tuple[Case, Facts, Facts]]


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    """What both middlewares record for all cases."""

    async def run() -> Recorded:
        return [
            (case, await record(case, ours, direct=True), await record(case, stock))
            for case in generate(_CASES)
        ]

    # The stock middleware ends some spans twice, which the SDK logs.
    logging.disable(logging.WARNING)
    try:
        yield asyncio.run(run())
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def found(recorded: Recorded) -> list[Found]:
    return [
        each for case, of_ours, of_stock in recorded for each in differing(case, of_ours, of_stock)
    ]


def test_every_difference_is_listed(found: list[Found]) -> None:
    unlisted = [str(each) for each in found if explanation(each) is None]
    assert not unlisted, f"{len(unlisted)} unlisted differences:\n" + "\n".join(unlisted[:20])


def test_every_listed_difference_occurs(found: list[Found]) -> None:
    seen = {explanation(each) for each in found}
    assert [each.reason for each in DIFFERENCES if each not in seen] == []


def test_unlisted_difference_is_noticed(recorded: Recorded) -> None:
    case, of_ours, of_stock = recorded[0]
    changed = {**of_ours, "span.kind": "CLIENT", "span[url.path]": "/other"}
    new = [each for each in differing(case, changed, of_stock) if explanation(each) is None]
    assert sorted(each.fact for each in new) == ["span.kind", "span[url.path]"]


def test_each_request_has_one_span_and_one_value_of_each_metric(recorded: Recorded) -> None:
    for case, facts, _ in recorded:
        assert facts["spans"] == 1, case
        assert facts["http.server.request.duration count"] == 1, case
        assert facts["http.server.active_requests value"] == 0, case


def test_exemplars_of_all_metrics_lead_to_the_trace(recorded: Recorded) -> None:
    for case, facts, _ in recorded:
        assert all(value for name, value in facts.items() if name.endswith("exemplars")), case


def test_spans_of_the_sdk_say_the_same(recorded: Recorded) -> None:
    async def run() -> list[Facts]:
        return [await record(case, ours) for case, _, _ in recorded]

    for (case, of_ours, _), of_sdk in zip(recorded, asyncio.run(run()), strict=True):
        assert of_sdk == of_ours, case


def test_route_is_never_the_path(recorded: Recorded) -> None:
    for case, facts, _ in recorded:
        templates = {value for name, value in facts.items() if name.endswith("[http.route]")}
        assert templates <= {route(case)}, case


def test_exception_reaches_the_server_unchanged(recorded: Recorded) -> None:
    for case, of_ours, of_stock in recorded:
        assert of_ours.get("raised") == of_stock.get("raised"), case


def test_response_size_is_what_was_sent(recorded: Recorded) -> None:
    for case, facts, _ in recorded:
        size = facts.get("http.server.response.body.size sum")
        if size is not None and not case.behaviour.endswith("write fails"):
            sent = sum(len(message.get("body", b"")) for message in facts["response"])
            assert size == (0 if case.method == "HEAD" else sent), case
