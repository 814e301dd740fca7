"""Measures how long each step of the delivery holds the interpreter lock, for large inputs.

Each step runs in the main thread of a process without a switch interval, so that the lock is only
released where the step itself releases it. A second thread wakes every 0.05 ms and reads how much
CPU time the first one has used since it could run last: CPU time, so that other processes of the
machine do not count. The result is the minimum over several rounds of the longest hold in each: a
round in which the second thread had to wait for a processor shows more. Garbage collection is off,
because it holds the lock in proportion to all objects of the program.
"""

import gc
import os
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, SpanContext

from chatscope.otlp import Delivery, DeliverySettings, OtlpMetricExporter, Signal, load_endpoints
from chatscope.otlp.batch import Group, decode_request, encode_group, encode_request
from chatscope.otlp.client import Client, connect
from chatscope.otlp.queue import BoundedQueue
from chatscope.otlp.spans import encode_span
from chatscope.otlp.spool import Spool
from chatscope.otlp.values import MAX_ITEMS, MAX_TEXT_BYTES, convert, text

_ROUNDS: Final = 15
_WANTED: Final = 0.00005  # s
_MEBIBYTE: Final = 1024 * 1024
_NEVER: Final = 1000.0  # s

Step = Callable[[], object]


def longest_holds(grpc_endpoint: str, http_endpoint: str) -> dict[str, float]:
    """Return the longest hold of each step in seconds."""
    sys.setswitchinterval(_NEVER)
    with tempfile.TemporaryDirectory() as directory:
        steps = {
            **_encoding(),
            **_batches(),
            **_disk(Path(directory)),
            **_calls(grpc_endpoint, http_endpoint),
        }
        return {name: min(_hold(step) for _ in range(_ROUNDS)) for name, step in steps.items()}


@contextmanager
def http_receiver(received: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Run an HTTP receiver that accepts every export and ignores its body; yield its address.

    `received` is called for each export.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            received()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _hold(step: Step) -> float:
    gc.collect()
    gc.disable()
    watch = _Watch()
    with watch:
        step()
    gc.enable()
    return watch.longest


class _Watch:
    """Measures the CPU time of other threads between two moments in which this one ran."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._begun = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        self._begun.wait()

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()

    def _run(self) -> None:
        others = [
            time.pthread_getcpuclockid(thread.ident)
            for thread in threading.enumerate()
            if thread.ident is not None and thread is not threading.current_thread()
        ]
        self._begun.set()
        before = [time.clock_gettime(clock) for clock in others]
        while not self._ended:
            time.sleep(_WANTED)
            now = [time.clock_gettime(clock) for clock in others]
            used = (end - begin for begin, end in zip(before, now, strict=True))
            self.longest = max(self.longest, *used)
            before = now


def _encoding() -> dict[str, Step]:
    numbers = {f"key.{number}": number * 7919 for number in range(128)}
    texts = {f"key.{number}": f"{number}" + "x" * 150 for number in range(128)}
    lists = {f"key.{number}": range(MAX_ITEMS) for number in range(8)}
    halves, wide = "\ud800" * MAX_TEXT_BYTES, "\u6f22" * MAX_TEXT_BYTES
    objects = [SimpleNamespace] * MAX_ITEMS
    usual, largest = _span(dict(list(texts.items())[:14]), 0), _span(numbers, 128)
    long, listed = _span(dict.fromkeys(list(numbers)[:4], wide), 0), _span(lists, 0)
    return {
        "span, 14 attributes": lambda: encode_span(usual),
        "span, 128 attributes, events, links": lambda: encode_span(largest),
        "span, 4 attributes of 256 KiB": lambda: encode_span(long),
        "span, 8 lists of 4,096 numbers": lambda: encode_span(listed),
        "value, 4,096 objects": lambda: convert(objects),
        "text, 256 KiB of surrogate halves": lambda: text(halves),
        "metrics, 4,000 points": _metrics(),
    }


def _span(attributes: dict[str, Any], events: int) -> Any:
    context = SpanContext(1, 1, is_remote=False)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("bench")
    span = tracer.start_span(
        "span", attributes=attributes, links=[Link(context, attributes)] * events
    )
    for _ in range(events):
        span.add_event("event", attributes)
    span.end()
    return span


def _metrics() -> Step:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("bench")
    counter, histogram = meter.create_counter("counter"), meter.create_histogram("histogram")
    for number in range(2_000):
        counter.add(1, {"http.route": f"/{number}"})
        histogram.record(number, {"http.route": f"/{number}"})
    data = reader.get_metrics_data()
    assert data is not None
    exporter = OtlpMetricExporter(Delivery(load_endpoints({}), DeliverySettings()))
    return lambda: exporter._requests(data)


def _batches() -> dict[str, Step]:
    resource = Resource.create({})
    items = [(encode_group(resource, _scope(number)), b"x" * 2_000) for number in range(512)]
    same = [(items[0][0], data) for _, data in items]
    request = encode_request(items)
    queues = [_full_queue(items[0][0]) for _ in range(2 * _ROUNDS)]
    large = b"x" * (32 * _MEBIBYTE)
    return {
        "batch, joining 512 items of 1 MiB": lambda: encode_request(same),
        "batch, joining 512 items of 512 scopes": lambda: encode_request(items),
        "batch, splitting 512 scopes": lambda: decode_request(request),
        "queue, taking 512 items": lambda: queues.pop().take(_MEBIBYTE),
        "queue, an item of 32 MiB drops all others": lambda: queues.pop().put((items[0][0], large)),
    }


def _scope(number: int) -> Any:
    return SimpleNamespace(name=f"scope {number}", version="", schema_url="", attributes={})


def _full_queue(group: Group) -> BoundedQueue:
    queue = BoundedQueue(16_384, 32 * _MEBIBYTE, 512)
    for _ in range(16_384):
        queue.put((group, b"x" * 1_900))
    return queue


def _disk(directory: Path) -> dict[str, Step]:
    body = os.urandom(_MEBIBYTE)
    spool = Spool(directory / "spans.db", 128 * _MEBIBYTE, _ignore, _ignore)
    spool.append(body, 512)
    packed = zlib.compress(body, 1)
    return {
        "spool, compressing 1 MiB": lambda: zlib.compress(body, 1),
        "spool, decompressing 1 MiB": lambda: zlib.decompress(packed),
        "spool, storing 1 MiB": lambda: spool.append(body, 512),
        "spool, claiming 1 MiB": lambda: spool.claim(10.0),
        "spool, counting": spool.backlog,
    }


def _ignore(*_: object) -> None:
    pass


def _calls(grpc_endpoint: str, http_endpoint: str) -> dict[str, Step]:
    body = os.urandom(_MEBIBYTE)

    def connected(**variables: str) -> Client:
        prefixed = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}
        found = connect(load_endpoints(prefixed)[Signal.TRACES])
        assert not found.send(b"").result().error_type
        return found

    over_grpc = {"ENDPOINT": grpc_endpoint}
    over_http = {"ENDPOINT": http_endpoint, "PROTOCOL": "http/protobuf"}
    clients = {
        "gRPC": connected(**over_grpc),
        "gRPC, gzip": connected(**over_grpc, COMPRESSION="gzip"),
        "HTTP": connected(**over_http),
        "HTTP, gzip": connected(**over_http, COMPRESSION="gzip"),
    }
    return {
        "gRPC, connecting": lambda: connected(**over_grpc),
        "HTTP, connecting": lambda: connected(**over_http),
        **{
            f"{name}, a call with 1 MiB": partial(_call, client, body)
            for name, client in clients.items()
        },
    }


def _call(client: Client, body: bytes) -> None:
    client.send(body).result()
