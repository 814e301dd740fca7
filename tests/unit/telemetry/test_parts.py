"""Parts of an encoded request and the rest of it make up the whole."""

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from app.telemetry.parts import SHAPES


def _logs(*groups: int) -> bytes:
    """Records 0, 1, 2... of several scopes, each of a resource of its own."""
    request, number = ExportLogsServiceRequest(), 0
    for size in groups:
        scope = request.resource_logs.add().scope_logs.add()
        for _ in range(size):
            scope.log_records.add().body.int_value = number
            number += 1
    body: bytes = request.SerializeToString()
    return body


def _numbers(body: bytes) -> list[int]:
    request = ExportLogsServiceRequest.FromString(body)
    return [
        record.body.int_value
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


@pytest.mark.parametrize("groups", [(2,), (64,), (1, 1, 1), (5, 0, 3)])
@pytest.mark.parametrize("turn", range(14))
def test_part_and_rest_are_the_whole(groups: tuple[int, ...], turn: int) -> None:
    body = _logs(*groups)
    split = SHAPES["log records"].split(body, turn)
    assert split
    part, rest = split
    assert sorted(_numbers(part.body) + _numbers(rest.body)) == list(range(sum(groups)))
    assert [len(_numbers(each.body)) for each in split] == [part.items, rest.items]
    assert part.items >= 1
    assert part.items <= sum(groups) // 2


def test_each_item_is_in_a_small_part() -> None:
    sizes = {
        split[0].items
        for turn in range(12)
        if (split := SHAPES["log records"].split(_logs(64), turn))
    }
    assert sizes == {1, 2, 4, 8, 16, 32}


def test_empty_groups_are_left_out() -> None:
    split = SHAPES["log records"].split(_logs(2, 2), 0)
    assert split
    assert all(
        len(ExportLogsServiceRequest.FromString(each.body).resource_logs) == 1 for each in split
    )


@pytest.mark.parametrize("body", [_logs(1), b"", b"\xff no request"])
def test_what_has_no_parts_is_not_split(body: bytes) -> None:
    assert SHAPES["log records"].split(body, 0) is None


def test_items_of_metrics_are_points() -> None:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    metrics.add(name="a").sum.data_points.add()
    second = metrics.add(name="b").gauge.data_points
    for _ in range(3):
        second.add()
    split = SHAPES["metrics"].split(request.SerializeToString(), 0)
    assert split
    assert [each.items for each in split] == [1, 3]
