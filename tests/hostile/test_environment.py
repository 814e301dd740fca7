"""Environments of the service: invalid variables, and unusual valid ones."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.elapsed import assert_at_most
from tests.hostile.outcome import attack, ends, no_errors
from tests.hostile.service import ROOT, Service, started

# Only Python and the settings are imported before an invalid value aborts startup.
_REFUSED_SECONDS = 10.0
_OTLP = "OTEL_EXPORTER_OTLP"
_NOWHERE = "/nowhere/at/all.pem"
_SECRET = "hunter2"
_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")

# Each is the only invalid variable.
_INVALID = (
    (f"{_OTLP}_COMPRESSION", "zstd"),
    (f"{_OTLP}_TRACES_COMPRESSION", "br"),
    (f"{_OTLP}_METRICS_COMPRESSION", "gzip,deflate"),
    (f"{_OTLP}_TIMEOUT", "10s"),
    (f"{_OTLP}_TIMEOUT", "0"),
    (f"{_OTLP}_TRACES_TIMEOUT", "-1"),
    (f"{_OTLP}_LOGS_TIMEOUT", "nan"),
    (f"{_OTLP}_METRICS_TIMEOUT", "inf"),
    (f"{_OTLP}_PROTOCOL", "carrier/pigeon"),
    (f"{_OTLP}_LOGS_PROTOCOL", "http/json"),
    (f"{_OTLP}_ENDPOINT", "ftp://collector:4317"),
    (f"{_OTLP}_ENDPOINT", "http://[::1"),
    (f"{_OTLP}_ENDPOINT", "http://collector:99999"),
    (f"{_OTLP}_ENDPOINT", "http://"),
    (f"{_OTLP}_ENDPOINT", "http://collector:4317 http://other:4317"),
    (f"{_OTLP}_TRACES_ENDPOINT", "collector:port"),
    (f"{_OTLP}_HEADERS", f"authorization {_SECRET}"),
    (f"{_OTLP}_HEADERS", f"ключ={_SECRET}"),
    (f"{_OTLP}_HEADERS", f"key={_SECRET}%0d%0aother: x"),
    (f"{_OTLP}_CERTIFICATE", _NOWHERE),
    (f"{_OTLP}_CERTIFICATE", "/etc/hostname"),
    (f"{_OTLP}_CLIENT_KEY", _NOWHERE),
    (f"{_OTLP}_CLIENT_CERTIFICATE", "/"),
    (f"{_OTLP}_INSECURE", "perhaps"),
    (f"{_OTLP}_METRICS_TEMPORALITY_PREFERENCE", "delta"),
    (f"{_OTLP}_METRICS_TEMPORALITY_PREFERENCE", "lowmemory"),
    (f"{_OTLP}_METRICS_TEMPORALITY_PREFERENCE", "sideways"),
    (f"{_OTLP}_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "median"),
    ("OTEL_TRACES_SAMPLER", "sometimes"),
    ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ("OTEL_TRACES_SAMPLER_ARG", "half"),
    ("OTEL_TRACES_EXPORTER", "jaeger"),
    ("OTEL_METRICS_EXPORTER", "prometheus"),
    ("OTEL_LOGS_EXPORTER", "console"),
    ("OTEL_PROPAGATORS", "semaphore"),
    ("OTEL_PYTHON_CONTEXT", "nothing"),
    ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "horoscope"),
    ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name"),
    ("OTEL_RESOURCE_ATTRIBUTES", "=production"),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", "-1"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "long"),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1e3"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "0x10"),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", "many"),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", "1.5"),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "9" * 40),
    ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "none"),
    ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "none"),
    ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "none"),
    ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
    ("OTEL_BSP_SCHEDULE_DELAY", "0"),
    ("OTEL_BSP_EXPORT_TIMEOUT", "soon"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-5"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "200ms"),
    ("OTEL_BLRP_EXPORT_TIMEOUT", "never"),
    ("OTEL_BLRP_MAX_QUEUE_SIZE", "9" * 40),
    ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "few"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "1m"),
    ("OTEL_METRIC_EXPORT_TIMEOUT", "soon"),
    ("OTEL_METRICS_EXEMPLAR_FILTER", "maybe"),
    ("OTEL_SDK_DISABLED", "maybe"),
    ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "please"),
    ("CHATSCOPE_HTTP_INSTRUMENTATION", "custom"),
    ("OTEL_SERVICE_NAME", "\udcff\udcfe"),
    ("PORT", "65536"),
    ("PORT", "http"),
    ("WORKERS", "0"),
    ("LOG_LEVEL", "LOUD"),
    ("FRONTEND_URL", "*"),
    ("FRONTEND_URL", "http://["),
    ("OPENAI_API_KEY", f"sk {_SECRET}"),
    ("OPENAI_BASE_URL", "http://["),
    ("OPENAI_BASE_URL", "unix:///tmp/x"),
    ("OPENAI_MODELS", "gpt-4o"),
    ("DEFAULT_MODEL", "nobody"),
    ("PRICES_FILE", "/nowhere/prices.json"),
    ("PRICES_FILE", "/etc/hostname"),
    ("PRICES_FILE", "/"),
    *((name, path) for name in ("MODELS_FILE", "KEYS_FILE") for path in ("/nowhere.toml", "/")),
    ("KEYS_FILE", "/etc/hostname"),
    ("BUDGETS_FILE", "/proc/1/budgets/x"),
    ("SHUTDOWN_GRACE_SECONDS", "-1"),
    ("SHUTDOWN_GRACE_SECONDS", "inf"),
    ("RECEIVE_TIMEOUT_SECONDS", "nan"),
    ("SEND_TIMEOUT_SECONDS", "1e400"),
    ("MAX_BODY_BYTES", "1MB"),
    ("SIMULATED_ERROR_RATE", "1.01"),
    ("TELEMETRY_SPOOL_BYTES", "1"),
    ("TELEMETRY_SPOOL_DIR", "/etc/hostname/spool"),
    ("TELEMETRY_SPOOL_DIR", "/proc/1/spool"),
)

# Unusual, but irrelevant or valid.
_VALID: Mapping[str, Mapping[str, str]] = {
    "the newest conventions": {
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        f"{_OTLP}_COMPRESSION": "gzip",
        f"{_OTLP}_TIMEOUT": "2.5",
        "OTEL_RESOURCE_ATTRIBUTES": "a=b%20c,deployment.environment.name=%C3%A9",
        "OTEL_PROPAGATORS": "tracecontext",
    },
    "a terminal of 1970": {
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "TERM": "dumb",
        "COLUMNS": "0",
        "TZ": "Nowhere/Nothing",
    },
    "proxies in lower case": dict.fromkeys(_PROXIES, "http://127.0.0.1:9"),
    "proxies in upper case": dict.fromkeys(map(str.upper, _PROXIES), "http://127.0.0.1:9"),
    "a debugging shell": {
        "PYTHONDEVMODE": "1",
        "PYTHONASYNCIODEBUG": "1",
        "PYTHONWARNINGS": "always",
        "PYTHONOPTIMIZE": "2",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LOG_LEVEL": "TRACE",
        "GRPC_VERBOSITY": "debug",
    },
    "somebody else's variables": {
        "OTEL_EXPORTER_JAEGER_ENDPOINT": "x",
        "OTEL_NOT_A_VARIABLE": "x",
        "OTEL_LOG_LEVEL": "loud",
        "UVICORN_PORT": "1",
        "WEB_CONCURRENCY": "7",
        "FORWARDED_ALLOW_IPS": "*",
        "BROKEN": "\udcff\udcfe",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """The result of a start."""

    exit_code: int
    output: str
    seconds: float


def _start(variable: str, value: str) -> Refusal:
    environ = {"PATH": os.environ["PATH"], "PORT": "0", variable: value}
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    with process:
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if "Uvicorn running" in line:
                process.kill()
        return Refusal(process.wait(), output, time.monotonic() - begun)


@pytest.fixture(scope="module")
def starts() -> Iterator[dict[tuple[str, str], "Future[Refusal]"]]:
    """Start once for each invalid value, two at a time; each test waits for its own start."""
    with ThreadPoolExecutor(2) as pool:
        yield {(name, value): pool.submit(_start, name, value) for name, value in _INVALID}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    ("variable", "value"), _INVALID, ids=[f"{name}={value[:20]!a}" for name, value in _INVALID]
)
def test_invalid_variable_ends_the_start_and_is_named(
    starts: dict[tuple[str, str], "Future[Refusal]"], variable: str, value: str
) -> None:
    refusal = starts[variable, value].result()
    assert refusal.exit_code == 2, refusal
    assert_at_most(refusal.seconds, _REFUSED_SECONDS, factor=1.0)
    assert f"{variable}=" in refusal.output
    assert "Traceback" not in refusal.output
    assert _SECRET not in refusal.output
    if value.isprintable() and _SECRET not in value:
        assert value[:40] in refusal.output


@pytest.mark.parametrize("environ", _VALID.values(), ids=_VALID)
def test_strange_environment_serves_and_records(tmp_path: Path, environ: Mapping[str, str]) -> None:
    with started(tmp_path, **environ) as service:
        _chat_in_many_scripts(service)
        no_errors(service)
        ends(service)


def _chat_in_many_scripts(service: Service) -> None:
    text = "héllo \u4f60\u597d \U0001f600 \u202e \x7f"
    with attack(service) as it:
        body = f'{{"messages":[{{"role":"user","content":"{text}"}}]}}'
        answer = service.chat(body, {"traceparent": it.traceparent})
        assert (answer.status, answer.trace_id) == (200, it.trace_id)
        it.leaves_span(http__response__status_code=200)
        it.leaves_span(gen_ai__request__model="simulated-1")
        it.leaves_log("answer completed", trace_id=it.trace_id)
    with attack(service) as it:
        answer = service.get("/%F0%9F%98%80", {"traceparent": it.traceparent})
        assert answer.status == 404
        it.leaves_span(http__response__status_code=404)
        it.leaves_log(trace_id=it.trace_id, http__response__status_code=404)
