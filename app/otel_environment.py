"""Validation of the OTEL_* variables that the OpenTelemetry SDK and its exporters read themselves.

They are checked before the SDK is imported: some are read during its import, an invalid value of
others raises in the middle of startup, is replaced by a default, or lets every export fail.
Variables that the service reads as well are fields of `Settings`.
"""

import math
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Final

from app import otel_checks as checks
from app.otel_checks import Variable, number, one_of
from app.problems import explain, is_utf8

_PREFIX: Final = "OTEL_"
# The specification counts milliseconds here, this SDK seconds: 10000 would be almost three hours.
_LONGEST_TIMEOUT_SECONDS: Final = 600.0
_LONGEST_MILLISECONDS: Final = 3_600_000
_LARGEST_LIMIT: Final = 2**31 - 1
_SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)


def problems(environ: Mapping[str, str]) -> list[str]:
    """Return one line for each variable whose value the SDK would not accept."""
    found = []
    for name, value in environ.items():
        if name.startswith(_PREFIX) and value.strip():
            problem = _problem(name, value.strip())
            if problem is not None:
                found.append(problem)
    return [*found, *_incomplete_keys(environ)]


def normalize(environ: MutableMapping[str, str]) -> None:
    """Remove empty OTEL_* variables and surrounding white space.

    The SDK treats an empty variable differently from an unset one, and a blank as a part of some
    values; the specification and this service do not.
    """
    for name in [name for name in environ if name.startswith(_PREFIX)]:
        if value := environ[name].strip():
            environ[name] = value
        else:
            del environ[name]


def _problem(name: str, value: str) -> str | None:
    variable = VARIABLES.get(name)
    secret = variable.secret if variable else False
    if not is_utf8(value):
        return explain(name, value, "text in UTF-8", secret=secret)
    if variable is None:
        return None
    try:
        variable.check(value)
    except ValueError as error:
        return explain(name, value, variable.accepts, reason=str(error), secret=secret)
    return None


def _incomplete_keys(environ: Mapping[str, str]) -> Iterator[str]:
    """Report client keys without a certificate, and those of another certificate."""
    for signal in _SIGNALS:
        key, certificate = (
            f"OTEL_EXPORTER_OTLP_{signal}{name}" for name in ("CLIENT_KEY", "CLIENT_CERTIFICATE")
        )
        values = {name: environ.get(name, "").strip() for name in (key, certificate)}
        given = [name for name in values if values[name]]
        if len(given) == 1:
            yield explain(given[0], values[given[0]], f"{key} and {certificate} or neither")
        elif (
            given
            and not any(_problem(name, value) for name, value in values.items())
            and (reason := checks.mismatch(values[certificate], values[key]))
        ):
            accepts = f"the PEM key, without a password, of {certificate}"
            yield explain(key, values[key], accepts, reason=reason)


_SIGNALS: Final = ("", "TRACES_", "METRICS_", "LOGS_")
_BOOLEAN: Final = one_of("true", "false", any_case=True)
_LIMIT: Final = number(
    f"a whole number from 0 to {_LARGEST_LIMIT}", whole=True, least=0, most=_LARGEST_LIMIT
)
_PATTERNS: Final = Variable(checks.regular_expressions, "a comma list of regular expressions")
_CREDENTIALS: Final = Variable(
    checks.entry_points("opentelemetry_otlp_credential_provider"),
    "the name of an installed provider",
)
_EXPORTER: Final = Variable(
    one_of("otlp").check, "otlp; OTEL_SDK_DISABLED=true switches telemetry off"
)
_OTLP: Final[Mapping[str, Variable]] = {
    "ENDPOINT": Variable(checks.endpoint, "http://host[:port], https://host[:port] or host:port"),
    "PROTOCOL": one_of("grpc", "http/protobuf"),
    "HEADERS": Variable(checks.headers, "a comma list of name=value, percent-encoded", secret=True),
    "COMPRESSION": one_of("gzip", "none", any_case=True),
    "TIMEOUT": number(
        f"a number of seconds above 0, up to {_LONGEST_TIMEOUT_SECONDS:g}",
        whole=False,
        least=math.ulp(0.0),
        most=_LONGEST_TIMEOUT_SECONDS,
    ),
    "INSECURE": _BOOLEAN,
    "CERTIFICATE": Variable(checks.certificates, "a file with PEM certificates"),
    "CLIENT_CERTIFICATE": Variable(checks.certificates, "a file with PEM certificates"),
    "CLIENT_KEY": Variable(checks.private_key, "a file with a PEM private key"),
}
VARIABLES: Final[Mapping[str, Variable]] = {
    **{
        f"OTEL_EXPORTER_OTLP_{signal}{name}": variable
        for signal in _SIGNALS
        for name, variable in _OTLP.items()
    },
    **{
        f"OTEL_PYTHON_EXPORTER_OTLP_GRPC_{signal}CREDENTIAL_PROVIDER": _CREDENTIALS
        for signal in _SIGNALS
    },
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": Variable(
        checks.status_codes, "a comma list of gRPC status codes, such as UNAVAILABLE"
    ),
    **{f"OTEL_{signal}EXPORTER": _EXPORTER for signal in _SIGNALS if signal},
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": Variable(
        one_of("cumulative", any_case=True).check,
        "cumulative: Prometheus stores no delta sums, and a lost one cannot be made up",
    ),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": one_of(
        "explicit_bucket_histogram", "base2_exponential_bucket_histogram"
    ),
    "OTEL_METRICS_EXEMPLAR_FILTER": one_of("trace_based", "always_on", "always_off"),
    "OTEL_METRIC_EXPORT_TIMEOUT": number(
        f"a number of milliseconds above 0, up to {_LONGEST_MILLISECONDS}",
        whole=False,
        least=math.ulp(0.0),
        most=_LONGEST_MILLISECONDS,
    ),
    **{
        f"OTEL_{processor}_EXPORT_TIMEOUT": number(
            f"a whole number of milliseconds from 0 to {_LONGEST_MILLISECONDS}",
            whole=True,
            least=0,
            most=_LONGEST_MILLISECONDS,
        )
        for processor in ("BSP", "BLRP")
    },
    "OTEL_TRACES_SAMPLER": one_of(*_SAMPLERS, any_case=True),
    "OTEL_TRACES_SAMPLER_ARG": number("a number from 0 to 1", whole=False, least=0, most=1),
    "OTEL_PROPAGATORS": Variable(
        checks.entry_points("opentelemetry_propagator", "tracecontext", "baggage", "none"),
        "a comma list of tracecontext, baggage or installed propagators; or none",
    ),
    "OTEL_RESOURCE_ATTRIBUTES": Variable(
        checks.pairs, "a comma list of key=value, percent-encoded"
    ),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": Variable(
        checks.entry_points("opentelemetry_resource_detector", "*"),
        "a comma list of installed resource detectors",
    ),
    **{
        f"OTEL_{limit}_LIMIT": _LIMIT
        for limit in (
            "ATTRIBUTE_COUNT",
            "ATTRIBUTE_VALUE_LENGTH",
            "EVENT_ATTRIBUTE_COUNT",
            "LINK_ATTRIBUTE_COUNT",
            "SPAN_ATTRIBUTE_COUNT",
            "SPAN_ATTRIBUTE_VALUE_LENGTH",
            "LOGRECORD_ATTRIBUTE_COUNT",
            "LOGRECORD_ATTRIBUTE_VALUE_LENGTH",
            "SPAN_EVENT_COUNT",
            "SPAN_LINK_COUNT",
        )
    },
    **{
        f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_{kind}": _PATTERNS
        for kind in ("SERVER_REQUEST", "SERVER_RESPONSE", "SANITIZE_FIELDS")
    },
    "OTEL_PYTHON_CONTEXT": one_of("contextvars_context"),
    **{
        f"OTEL_PYTHON_{kind}_PROVIDER": Variable(checks.unchanged, "no value")
        for kind in ("TRACER", "METER", "LOGGER")
    },
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": _BOOLEAN,
}
