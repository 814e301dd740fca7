"""A process that cannot start exits immediately, with the reason once, and an exit code."""

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from tests.receiver import Receiver
from tests.unit.process import PATIENCE_SECONDS, patched, process, served, until

pytestmark = pytest.mark.slow

_ALONE_AND_WORKERS = pytest.mark.parametrize("workers", ["1", "2"], ids=["alone", "workers"])
_LIFESPAN_FAILS = """
from chatscope import instruments

def fail(*_, **__):
    raise RuntimeError("the lifespan fails")

instruments.Instruments.show_limits = fail
"""
_BUILDING_FAILS = """
from app.providers import catalog

def fail(*_, **__):
    raise MemoryError("no memory is left")

catalog.Catalog.__init__ = fail
"""
_IMPORT_FAILS = "import sys; sys.modules['starlette.applications'] = None"
_LOG_LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} ")


def _ended(**environ: str) -> tuple[int, str]:
    with process(**environ) as running:
        _, printed = running.communicate(timeout=PATIENCE_SECONDS)
        return running.returncode, printed


@_ALONE_AND_WORKERS
def test_invalid_variables_are_all_reported_and_end_it_with_2(workers: str) -> None:
    invalid = {
        "PORT": "x",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "10s",
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/json",
        # These two raise while the SDK and its API are imported.
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many",
        "OTEL_PROPAGATORS": "nobody",
    }
    code, printed = _ended(WORKERS=workers, **invalid)
    assert code == 2
    lines = printed.splitlines()
    assert len(lines) == len(invalid)
    for name, value in invalid.items():
        assert printed.count(f"{name}={value} is not accepted") == 1


@_ALONE_AND_WORKERS
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (_LIFESPAN_FAILS, "RuntimeError: the lifespan fails"),
        (_BUILDING_FAILS, "MemoryError: no memory is left"),
        (_IMPORT_FAILS, "import of starlette.applications halted"),
    ],
    ids=["lifespan", "memory", "import"],
)
def test_failed_start_is_reported_once_and_ends_it_with_1(
    workers: str, code: str, reason: str, tmp_path: Path
) -> None:
    code_of_exit, printed = _ended(WORKERS=workers, **patched(tmp_path, code))
    assert code_of_exit == 1
    # One traceback, and not a bare one: a log line comes first.
    assert printed.count(reason) == 1, printed
    assert _LOG_LINE.match(printed), printed


def test_failed_start_reaches_the_collector(tmp_path: Path) -> None:
    with Receiver() as receiver:
        code, _ = _ended(
            OTEL_SDK_DISABLED="false",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            **patched(tmp_path, _LIFESPAN_FAILS),
        )
        assert code == 1
        assert any("the lifespan fails" in log.body for log in receiver.log_records)


def test_empty_variables_of_the_sdk_are_unset() -> None:
    empty = (
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_INSECURE",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_METRICS_EXEMPLAR_FILTER",
    )
    with (
        Receiver() as receiver,
        process(
            OTEL_SDK_DISABLED="false",
            OTEL_EXPORTER_OTLP_ENDPOINT=f" {receiver.endpoint} ",
            **dict.fromkeys(empty, " "),
        ) as running,
    ):
        served(running)
        running.send_signal(signal.SIGTERM)
        _, printed = running.communicate(timeout=PATIENCE_SECONDS)
        assert running.returncode == 0, printed
        assert receiver.log_records


def test_requests_work_whichever_conventions_others_opt_into() -> None:
    """Over one connection: an exception after a response would close it."""
    with (
        Receiver() as receiver,
        process(
            OTEL_SDK_DISABLED="false",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_SEMCONV_STABILITY_OPT_IN="gen_ai_latest_experimental",
        ) as running,
    ):
        url = served(running)
        with httpx2.Client(base_url=url, trust_env=False) as client:
            streams = set()
            for _ in range(3):
                response = client.get("/v1/models")
                assert response.status_code == 200
                streams.add(response.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(streams) == 1
        running.send_signal(signal.SIGTERM)
        _, printed = running.communicate(timeout=PATIENCE_SECONDS)
        assert running.returncode == 0
        assert "Traceback" not in printed
        counted = receiver.last("http.server.request.duration", http__route="/v1/models")
        assert sum(counted.values()) == 3
        assert set(receiver.last("http.server.active_requests").values()) == {0}


class _Proxy(BaseHTTPRequestHandler):
    """Records what it is asked for, and refuses it."""

    seen: list[str]

    def refuse(self) -> None:
        self.seen.append(f"{self.command} {self.path}")
        self.send_error(502)

    do_CONNECT = do_GET = do_POST = refuse

    def log_message(self, *_: object) -> None:
        pass


class _Endpoint(BaseHTTPRequestHandler):
    """A model's endpoint, which refuses every request."""

    seen: list[str]

    def do_POST(self) -> None:
        self.seen.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        self.send_error(400)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _listening(kind: type[_Proxy] | type[_Endpoint]) -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    handler = type("Handler", (kind,), {"seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.05)
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()


_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


def _ask(url: str) -> None:
    ask = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    httpx2.post(f"{url}/v1/chat/completions", json=ask, trust_env=False, timeout=30)


def test_this_machine_is_never_reached_by_a_proxy() -> None:
    with _listening(_Proxy) as (proxy, proxied), _listening(_Endpoint) as (endpoint, asked):
        proxies = {name: proxy for lower in _PROXIES for name in (lower, lower.upper())}
        with (
            Receiver() as receiver,
            process(
                OTEL_SDK_DISABLED="false",
                OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
                OPENAI_BASE_URL=f"{endpoint}/v1",
                OPENAI_MODELS="m",
                **proxies,
            ) as running,
        ):
            _ask(served(running))
            until(lambda: bool(receiver.spans and receiver.log_records and receiver.metric_points))
            running.kill()
        assert asked == ["/v1/chat/completions"]
        assert proxied == []


def test_other_machines_are_reached_by_the_proxy_unless_they_are_exceptions() -> None:
    with (
        _listening(_Proxy) as (proxy, proxied),
        process(
            OTEL_SDK_DISABLED="false",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://traces.invalid:4317",
            OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="http://logs.invalid:4317",
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://127.0.0.1:9",
            OPENAI_BASE_URL="http://models.invalid/v1",
            OPENAI_MODELS="m",
            OPENAI_MAX_RETRIES="0",
            http_proxy=proxy,
            NO_PROXY="logs.invalid",
        ) as running,
    ):
        _ask(served(running))
        until(lambda: "CONNECT traces.invalid:4317" in proxied, "the call through the proxy")
        running.kill()
    assert "POST http://models.invalid/v1/chat/completions" in proxied
    assert not [request for request in proxied if "logs.invalid" in request]
