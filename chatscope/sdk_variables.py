"""Check the `OTEL_*` variables that the OpenTelemetry SDK reads itself, without importing it.

The SDK reads some of them while it is imported, and raises for an invalid value, later than that or
replaces it silently. Each check parses a value as the SDK does.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

from chatscope.otlp.settings import OtlpSettingsError, load_endpoints
from chatscope.otlp.variables import InvalidVariable, Variable, show

_HOUR_MS: Final = 3_600_000
_LARGEST_LIMIT: Final = 2**31 - 1
# `OTEL_…_LIMIT`.
_LIMITS: Final = (
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
_SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)


def invalid_variables(
    environ: Mapping[str, str], *, endpoint: str | None = None
) -> list[InvalidVariable]:
    """Return the `OTEL_*` variables whose values the SDK or the delivery does not accept.

    Empty variables count as unset. `endpoint` is that of the delivery where no variable sets one.
    The OpenTelemetry SDK is not imported.
    """
    found = [
        problem
        for name, variable in VARIABLES.items()
        if (value := environ.get(name, "").strip()) and (problem := _problem(name, variable, value))
    ]
    try:
        load_endpoints(environ, endpoint=endpoint)
    except OtlpSettingsError as error:
        found += error.problems
    return found


def _problem(name: str, variable: Variable, value: str) -> InvalidVariable | None:
    try:
        variable.parse(value)
    except ValueError as error:
        return variable.problem(name, value, str(error))
    return None


def _one_of(*values: str) -> Variable:
    """Accept one of these values, in any case."""
    accepts = " or ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)

    def check(value: str) -> None:
        if value.lower() not in values:
            raise ValueError

    return Variable(check, accepts)


def _number(
    accepts: str, least: float, most: float, convert: Callable[[str], float] = int
) -> Variable:
    def check(text: str) -> None:
        try:
            value = convert(text)
        except ValueError:
            raise ValueError from None
        if not least <= value <= most:
            raise ValueError

    return Variable(check, accepts)


def _check_pairs(value: str) -> None:
    for item in filter(None, (item.strip() for item in value.split(","))):
        name, separator, text = item.partition("=")
        if not separator or not name.strip():
            raise ValueError(f"{show(item)!r} is not key=value")
        try:
            unquote(text, errors="strict").encode()
        except UnicodeError:
            raise ValueError(f"{show(item)!r} does not decode to UTF-8") from None


def _check_patterns(value: str) -> None:
    for pattern in value.split(","):
        try:
            re.compile(pattern.strip())
        except re.error as error:
            raise ValueError(f"{show(pattern)!r}: {error}") from None


def _installed(group: str, accepts: str, *built_in: str) -> Variable:
    """Accept names, separated by commas, that installed packages register in an entry point group,
    and `built_in` names."""

    def check(value: str) -> None:
        # Reading the metadata of every installed package takes a while.
        from importlib.metadata import entry_points  # noqa: PLC0415

        names = [name.strip() for name in value.split(",")]
        unknown = [name for name in names if name not in built_in]
        registered = {point.name for point in entry_points(group=group)} if unknown else set()
        if missing := [name for name in unknown if name not in registered]:
            raise ValueError(f"{show(missing[0])!r} is not installed")

    return Variable(check, accepts)


_MILLISECONDS: Final = _number(
    f"a whole number of milliseconds from 0 to {_HOUR_MS}", least=0, most=_HOUR_MS
)
_LIMIT: Final = _number(f"a whole number from 0 to {_LARGEST_LIMIT}", least=0, most=_LARGEST_LIMIT)
_BOOLEAN: Final = _one_of("true", "false")
_PATTERNS: Final = Variable(_check_patterns, "a comma list of regular expressions")
# Not those that are settings of ours (`TelemetrySettings`) or of the delivery (`chatscope.otlp`).
VARIABLES: Final[Mapping[str, Variable]] = {
    "OTEL_SDK_DISABLED": _BOOLEAN,
    "OTEL_TRACES_SAMPLER": _one_of(*_SAMPLERS),
    "OTEL_TRACES_SAMPLER_ARG": _number("a number from 0 to 1", 0, 1, float),
    "OTEL_METRICS_EXEMPLAR_FILTER": _one_of("trace_based", "always_on", "always_off"),
    "OTEL_METRIC_EXPORT_TIMEOUT": _number(
        f"a number of milliseconds above 0, up to {_HOUR_MS}", math.ulp(0.0), _HOUR_MS, float
    ),
    "OTEL_BSP_EXPORT_TIMEOUT": _MILLISECONDS,
    "OTEL_BLRP_EXPORT_TIMEOUT": _MILLISECONDS,
    "OTEL_PROPAGATORS": _installed(
        "opentelemetry_propagator",
        "a comma list of tracecontext, baggage or installed propagators; or none",
        *("tracecontext", "baggage", "none"),
    ),
    "OTEL_RESOURCE_ATTRIBUTES": Variable(
        _check_pairs, "a comma list of key=value, percent-encoded"
    ),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": _installed(
        "opentelemetry_resource_detector", "a comma list of installed resource detectors", "*"
    ),
    **{f"OTEL_{limit}_LIMIT": _LIMIT for limit in _LIMITS},
    **{
        f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_{kind}": _PATTERNS
        for kind in ("SERVER_REQUEST", "SERVER_RESPONSE", "SANITIZE_FIELDS")
    },
    "OTEL_PYTHON_CONTEXT": _one_of("contextvars_context"),
    **{
        f"OTEL_PYTHON_{kind.upper()}_PROVIDER": _installed(
            f"opentelemetry_{kind}_provider", f"an installed {kind} provider"
        )
        for kind in ("tracer", "meter", "logger")
    },
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": _BOOLEAN,
}
