"""The OTEL_* variables: what the SDK would not accept, or not understand, is reported."""

import subprocess
from pathlib import Path

import opentelemetry.environment_variables as api_variables
import opentelemetry.sdk.environment_variables as sdk_variables
import pytest

from app.otel_environment import RESTRICTIONS, normalize, problems
from app.settings import Settings, SettingsError, load_settings
from chatscope.otlp.variables import VARIABLES as OTLP_VARIABLES
from chatscope.sdk_variables import VARIABLES as SDK_VARIABLES

_OTLP = "OTEL_EXPORTER_OTLP"
# Of parts of the SDK that this service does not use: its own configuration, other exporters.
_WITHOUT_EFFECT = {
    "OTEL_CONFIG_FILE",
    "OTEL_EXPORTER_PROMETHEUS_HOST",
    "OTEL_EXPORTER_PROMETHEUS_PORT",
    "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
    "OTEL_EXPORTER_ZIPKIN_TIMEOUT",
    "OTEL_LOG_LEVEL",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_LOGS_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_METRICS_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_ID_GENERATOR",
    "OTEL_PYTHON_LOGGER_CONFIGURATOR",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED",
    "OTEL_PYTHON_METER_CONFIGURATOR",
    "OTEL_PYTHON_TRACER_CONFIGURATOR",
}


def _reported(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return caught.value.problems


def test_every_variable_that_the_sdk_knows_is_checked() -> None:
    known = {
        value
        for module in (api_variables, sdk_variables)
        for name, value in vars(module).items()
        if name.lstrip("_").startswith("OTEL_")
    }
    ours = {str(field.validation_alias) for field in Settings.model_fields.values()}
    checked = {*RESTRICTIONS, *SDK_VARIABLES, *OTLP_VARIABLES}
    assert known - checked - ours == _WITHOUT_EFFECT
    assert not set(SDK_VARIABLES) & set(OTLP_VARIABLES)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (f"{_OTLP}_ENDPOINT", "collector", "neither a URL nor host:port"),
        (f"{_OTLP}_ENDPOINT", "collector:99999", "neither a URL nor host:port"),
        (f"{_OTLP}_ENDPOINT", "http://", "not an http or https URL"),
        (f"{_OTLP}_ENDPOINT", "htp://collector:4317", "not an http or https URL"),
        (f"{_OTLP}_ENDPOINT", "http://collector:port", "http://host[:port]"),
        (f"{_OTLP}_ENDPOINT", "http://[::1", "http://host[:port]"),
        (f"{_OTLP}_TRACES_ENDPOINT", "http://collector:0", "a port is a number from 1"),
        (f"{_OTLP}_LOGS_ENDPOINT", "http://a b:4317", "white space"),
        (f"{_OTLP}_PROTOCOL", "http/json", "give grpc or http/protobuf"),
        (f"{_OTLP}_METRICS_PROTOCOL", "nonsense", "give grpc"),
        (f"{_OTLP}_COMPRESSION", "zstd", "give gzip or none"),
        (f"{_OTLP}_LOGS_COMPRESSION", "deflate", "give gzip or none"),
        (f"{_OTLP}_TIMEOUT", "10s", "give a number of seconds"),
        (f"{_OTLP}_TIMEOUT", "0", "give a number of seconds"),
        (f"{_OTLP}_TIMEOUT", "10000", "up to 600"),
        (f"{_OTLP}_TRACES_TIMEOUT", "nan", "give a number of seconds"),
        (f"{_OTLP}_INSECURE", "yes", "give true or false"),
        (f"{_OTLP}_CERTIFICATE", "/nowhere/ca.pem", "there is no such file"),
        (f"{_OTLP}_CERTIFICATE", "/", "it is not a file"),
        (f"{_OTLP}_CERTIFICATE", __file__, "it has no PEM certificate"),
        ("OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER", "mine", "a client of its own"),
        (
            "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES",
            "UNAVAILABLE",
            "a client of its own",
        ),
        (f"{_OTLP}_METRICS_TEMPORALITY_PREFERENCE", "delta", "give cumulative: Prometheus"),
        (f"{_OTLP}_METRICS_TEMPORALITY_PREFERENCE", "lowmemory", "give cumulative: Prometheus"),
        (
            f"{_OTLP}_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
            "give explicit_bucket_histogram",
        ),
        ("OTEL_TRACES_EXPORTER", "console", "give otlp"),
        ("OTEL_LOGS_EXPORTER", "none", "OTEL_SDK_DISABLED=true"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1s", "give a whole number of milliseconds"),
        ("OTEL_BSP_SCHEDULE_DELAY", "9" * 20, "give a whole number of milliseconds"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "soon", "give a whole number of milliseconds"),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "-1", "give a whole number of milliseconds"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "0", "give a whole number from 1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "9" * 20, "give a whole number from 1"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1.5s", "give a whole number of milliseconds"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "x", "give a number of milliseconds"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "sometimes", "give trace_based, always_on or always_off"),
        ("OTEL_TRACES_SAMPLER", "ratio", "give always_on"),
        ("OTEL_TRACES_SAMPLER_ARG", "10%", "give a number from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", "give a number from 0 to 1"),
        ("OTEL_PROPAGATORS", "tracecontext,jaeger-x", "'jaeger-x' is not installed"),
        ("OTEL_PROPAGATORS", "tracecontext,", "'' is not installed"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,production", "'production' is not key=value"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=b", "'=b' is not key=value"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%ff", "does not decode to UTF-8"),
        ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "moon", "'moon' is not installed"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many", "give a whole number"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "-1", "give a whole number"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "9" * 20, "give a whole number"),
        ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "1e3", "give a whole number"),
        ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "x-.*,(", "'('"),
        ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", "*", "'*'"),
        ("OTEL_SDK_DISABLED", "1", "give true or false"),
        ("OTEL_SDK_DISABLED", "yes", "give true or false"),
        ("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "on", "give true or false"),
        ("OTEL_PYTHON_CONTEXT", "mine", "give contextvars_context"),
        ("OTEL_PYTHON_METER_PROVIDER", "sdk_meter_provider", "installs its own provider"),
        ("OTEL_SERVICE_NAME", "caf\udce9", "give text in UTF-8"),
        ("OTEL_ANYTHING", "\udcff", "give text in UTF-8"),
    ],
)
def test_invalid_value_is_reported_with_what_is_accepted(
    name: str, value: str, expected: str
) -> None:
    (problem,) = _reported(**{name: value})
    shown = value if value.isprintable() else ascii(value)
    assert problem.startswith(f"{name}={shown} is not accepted")
    assert expected in problem


@pytest.mark.parametrize(
    "value",
    ["secret", "api key=secret", "x(y)=secret", "a=b,x=sec\nret", "x=secret;y", "x=%22secret%ff"],
)
def test_headers_are_never_repeated(value: str) -> None:
    (problem,) = _reported(**{f"{_OTLP}_HEADERS": value})
    assert problem.startswith(f"{_OTLP}_HEADERS=*** is not accepted")
    assert "secret" not in problem


def test_password_in_an_endpoint_is_not_repeated() -> None:
    (problem,) = _reported(**{f"{_OTLP}_ENDPOINT": "http://me:secret@collector:4317"})
    assert "secret" not in problem
    assert "OTEL_EXPORTER_OTLP_HEADERS" in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (f"{_OTLP}_ENDPOINT", "https://collector.example"),
        (f"{_OTLP}_ENDPOINT", "collector:4317"),
        (f"{_OTLP}_ENDPOINT", "[::1]:4317"),
        (f"{_OTLP}_ENDPOINT", "http://[::1]:4317"),
        (f"{_OTLP}_ENDPOINT", "dns:///collector:4317"),
        (f"{_OTLP}_ENDPOINT", "unix:/run/collector.sock"),
        (f"{_OTLP}_HEADERS", "authorization=Bearer abc==, x-tenant=a%20b,"),
        (f"{_OTLP}_ENDPOINT", "http://collector"),
        (f"{_OTLP}_PROTOCOL", "grpc"),
        (f"{_OTLP}_PROTOCOL", "http/protobuf"),
        (f"{_OTLP}_LOGS_PROTOCOL", "http/protobuf"),
        (f"{_OTLP}_COMPRESSION", "none"),
        (f"{_OTLP}_COMPRESSION", "GZIP"),
        (f"{_OTLP}_TIMEOUT", " 2.5 "),
        (f"{_OTLP}_INSECURE", "TRUE"),
        (f"{_OTLP}_METRICS_TEMPORALITY_PREFERENCE", "Cumulative"),
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_PROPAGATORS", "tracecontext, baggage"),
        ("OTEL_PROPAGATORS", "none"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c=%C3%A9,"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0"),
        ("OTEL_SEMCONV_STABILITY_OPT_IN", "http/dup,database"),
        ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "content-type,x-.*"),
        ("OTEL_SDK_DISABLED", "False"),
        ("OTEL_LOG_LEVEL", "whatever"),
        ("OTEL_PROPAGATORS", ""),
        ("OTEL_TRACES_SAMPLER", "  "),
    ],
)
def test_valid_value_is_accepted(name: str, value: str) -> None:
    load_settings({name: value})


def _pem(directory: Path, name: str) -> tuple[str, str]:
    key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
    options = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name}"
    subprocess.run(
        ["openssl", "req", *options.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return str(key), str(certificate)


def test_client_keys_belong_to_their_certificates(tmp_path: Path) -> None:
    key, certificate = _pem(tmp_path, "one")
    other, _ = _pem(tmp_path, "other")
    good = {
        f"{_OTLP}_CERTIFICATE": certificate,
        f"{_OTLP}_CLIENT_CERTIFICATE": certificate,
        f"{_OTLP}_CLIENT_KEY": key,
    }
    assert problems(good) == []
    (problem,) = problems({**good, f"{_OTLP}_CLIENT_KEY": other})
    assert problem.startswith(f"{_OTLP}_CLIENT_KEY={other} is not accepted (KEY_VALUES_MISMATCH)")
    (problem,) = problems({**good, f"{_OTLP}_CLIENT_KEY": certificate})
    assert "it has no PEM private key" in problem
    assert problems({**good, f"{_OTLP}_CERTIFICATE": ""}) == []
    for name in (f"{_OTLP}_CLIENT_KEY", f"{_OTLP}_CLIENT_CERTIFICATE"):
        (problem,) = problems({**good, name: ""})
        assert f"({name} is not set): give a key and its certificate, or neither" in problem


def test_all_problems_are_reported_together() -> None:
    reported = _reported(
        PORT="x", WORKERS="0", OTEL_PROPAGATORS="b3x", OTEL_EXPORTER_OTLP_COMPRESSION="zstd"
    )
    names = [problem.partition("=")[0] for problem in reported]
    assert names == ["PORT", "WORKERS", "OTEL_PROPAGATORS", "OTEL_EXPORTER_OTLP_COMPRESSION"]


def test_empty_variables_are_unset_and_blanks_removed_for_the_sdk() -> None:
    environ = {"OTEL_A": "", "OTEL_B": " \t", "OTEL_C": " c d ", "PATH": " ", "OTEL_D": "d"}
    normalize(environ)
    assert environ == {"OTEL_C": "c d", "PATH": " ", "OTEL_D": "d"}
