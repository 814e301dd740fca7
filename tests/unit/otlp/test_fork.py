"""A forked process has a queue, connections and an instance of its own, and loses nothing."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.elapsed import takes_at_most
from tests.unit.otlp.servers import Call, grpc_server, http_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_ROOT = Path(__file__).parents[3]
_CHILDREN = 3
_ITEMS = 100
# Three children one after the other have five seconds each; on a busy machine they take one.
_SECONDS = 20

_PROGRAM = """
import faulthandler, multiprocessing, os, sys, time
from pathlib import Path
from tests.unit.otlp.emitting import emitting

endpoint, protocol, spool, state, way = sys.argv[1:]
emitted = emitting(
    endpoint,
    Path(spool) if spool else None,
    variables={"PROTOCOL": protocol},
    interval=3600.0,
)

def run(name):
    faulthandler.dump_traceback_later(8, exit=True)
    emitted.emit(range(100), f"{name}-")
    counter = emitted.meter_provider.get_meter("test").create_counter("forked")
    counter.add(1)
    emitted.meter_provider.force_flush()
    ended = emitted.delivery.shutdown(5.0)
    os._exit(0 if ended else 3)

if state != "fresh":
    emitted.emit(range(100), "parent-")
if state == "delivered":
    emitted.delivery.flush(60.0)
    time.sleep(0.3)
# In the state "queued" some of it is still on its way.
children = []
for number in range(3):
    if way == "os.fork":
        pid = os.fork()
        if pid == 0:
            run(f"child{number}")
        children.append(pid)
    else:
        process = multiprocessing.get_context("fork").Process(target=run, args=(f"child{number}",))
        process.start()
        children.append(process)
if way == "os.fork":
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
else:
    for process in children:
        process.join()
    statuses = [process.exitcode for process in children]
emitted.emit(range(100), "later-")
assert emitted.delivery.shutdown(10.0)
emitted.assert_even()
print(statuses)
"""


@pytest.mark.parametrize(
    ("protocol", "way", "on_disk"),
    [
        ("grpc", "os.fork", True),
        ("grpc", "os.fork", False),
        ("grpc", "multiprocessing", True),
        ("http/protobuf", "os.fork", True),
    ],
)
@pytest.mark.parametrize("state", ["fresh", "queued", "delivered"])
def test_each_child_delivers_all_of_its_own_and_nothing_of_the_parents(
    state: str, protocol: str, way: str, tmp_path: Path, *, on_disk: bool
) -> None:
    with grpc_server() if protocol == "grpc" else http_server() as server:
        path = "" if protocol == "grpc" else "/"
        endpoint = f"http://127.0.0.1:{server.port}{path}"
        spool = str(tmp_path) if on_disk else ""
        with takes_at_most(_SECONDS, factor=1.0):
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, endpoint, protocol, spool, state, way],
                cwd=_ROOT,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[0, 0, 0]\n", done.stderr
    received = _received(server.calls)
    expected = Counter({"later": _ITEMS, **{f"child{n}": _ITEMS for n in range(_CHILDREN)}})
    if state != "fresh":
        expected["parent"] = _ITEMS
    for signal in ("spans", "log records"):
        # Each name is `WHO-NUMBER`, and no item came twice.
        assert Counter(name.partition("-")[0] for name in received[signal]) == expected
    _assert_own_instances(received["spans"])
    counted = received["forked"]
    assert len(counted) == _CHILDREN
    assert set(counted) < {instances.pop() for instances in _by_who(received["spans"]).values()}


def _assert_own_instances(spans: dict[str, str]) -> None:
    """Assert that the parent and each child had an instance each, before and after the fork."""
    instances = _by_who(spans)
    assert all(len(found) == 1 for found in instances.values()), instances
    parent = instances.pop("later")
    assert instances.pop("parent", parent) == parent
    assert len({found.copy().pop() for found in instances.values()} | parent) == _CHILDREN + 1


def _by_who(items: dict[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, instance in items.items():
        found.setdefault(name.partition("-")[0], set()).add(instance)
    return found


def _received(calls: list[Call]) -> dict[str, dict[str, str]]:
    """Return the instance of each span and log record by name, and of the counter's points."""
    found: dict[str, dict[str, str]] = {"spans": {}, "log records": {}, "forked": {}}
    for call in calls:
        if "trace" in call.path:
            spans = ExportTraceServiceRequest.FromString(call.body).resource_spans
            names = [(each, s.name) for each in spans for g in each.scope_spans for s in g.spans]
            kind = "spans"
        elif "logs" in call.path:
            logs = ExportLogsServiceRequest.FromString(call.body).resource_logs
            names = [
                (each, record.body.string_value)
                for each in logs
                for group in each.scope_logs
                for record in group.log_records
            ]
            kind = "log records"
        else:
            _add_counters(call.body, found["forked"])
            continue
        for group, name in names:
            assert name not in found[kind], f"{name} came twice"
            found[kind][name] = _instance(group)
    return found


def _add_counters(body: bytes, found: dict[str, str]) -> None:
    for each in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        for group in each.scope_metrics:
            for metric in group.metrics:
                if metric.name == "forked":
                    assert [point.as_int for point in metric.sum.data_points] == [1]
                    found[_instance(each)] = metric.name


def _instance(group: Any) -> str:
    attributes = {each.key: each.value.string_value for each in group.resource.attributes}
    return str(attributes["service.instance.id"])
