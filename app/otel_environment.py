"""Validation of the OTEL_* variables that the OpenTelemetry SDK reads itself.

They are checked before the SDK is imported: some are read during its import, an invalid value of
others raises in the middle of startup or is replaced by a default. `OTEL_EXPORTER_OTLP_*` are
checked by `chatscope.otlp`, which reads them; variables that the service reads as well are fields
of `Settings`.
"""

import math
from collections.abc import Mapping, MutableMapping
from typing import Final

from app import otel_checks as checks
from app.otel_checks import Variable, number, one_of
from app.problems import explain, is_utf8
from chatscope.otlp import OtlpSettingsError, load_endpoints
from chatscope.otlp.variables import VARIABLES as OTLP_VARIABLES
from chatscope.settings import SDK_LIMITS

_PREFIX: Final = "OTEL_"
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
    """Return one line for each variable whose value the SDK or the delivery would not accept."""
    found = []
    for name, value in environ.items():
        if name.startswith(_PREFIX) and name not in OTLP_VARIABLES and value.strip():
            problem = _problem(name, value.strip())
            if problem is not None:
                found.append(problem)
    return [*found, *_otlp_problems(environ)]


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
    if not is_utf8(value):
        return explain(name, value, "text in UTF-8")
    if variable is None:
        return None
    try:
        variable.check(value)
    except ValueError as error:
        return explain(name, value, variable.accepts, reason=str(error))
    return None


def _otlp_problems(environ: Mapping[str, str]) -> list[str]:
    """Return what `chatscope.otlp` does not accept of its own variables."""
    try:
        load_endpoints(environ)
    except OtlpSettingsError as error:
        return [
            explain(found.variable, found.value, found.accepts, reason=found.reason)
            for found in error.problems
        ]
    return []


_SIGNALS: Final = ("TRACES", "METRICS", "LOGS")
_BOOLEAN: Final = one_of("true", "false", any_case=True)
_LIMIT: Final = number(
    f"a whole number from 0 to {_LARGEST_LIMIT}", whole=True, least=0, most=_LARGEST_LIMIT
)
_PATTERNS: Final = Variable(checks.regular_expressions, "a comma list of regular expressions")
_EXPORTER: Final = Variable(
    one_of("otlp").check, "otlp; OTEL_SDK_DISABLED=true switches telemetry off"
)
VARIABLES: Final[Mapping[str, Variable]] = {
    **{
        f"OTEL_PYTHON_EXPORTER_OTLP_GRPC_{name}": Variable(
            checks.no_value("the service has a client of its own"), "no value"
        )
        for name in (
            "CREDENTIAL_PROVIDER",
            *(f"{signal}_CREDENTIAL_PROVIDER" for signal in _SIGNALS),
            "RETRYABLE_ERROR_CODES",
        )
    },
    **{f"OTEL_{signal}_EXPORTER": _EXPORTER for signal in _SIGNALS},
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": one_of("explicit_bucket_histogram"),
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
    **{f"OTEL_{limit}_LIMIT": _LIMIT for limit in SDK_LIMITS},
    **{
        f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_{kind}": _PATTERNS
        for kind in ("SERVER_REQUEST", "SERVER_RESPONSE", "SANITIZE_FIELDS")
    },
    "OTEL_PYTHON_CONTEXT": one_of("contextvars_context"),
    **{
        f"OTEL_PYTHON_{kind}_PROVIDER": Variable(
            checks.no_value("the service installs its own provider"), "no value"
        )
        for kind in ("TRACER", "METER", "LOGGER")
    },
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": _BOOLEAN,
}
