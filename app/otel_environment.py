"""Validation of the OTEL_* variables, before the OpenTelemetry SDK is imported.

`chatscope` checks the variables that the SDK and the delivery read; here are those that this
service restricts further. Variables that the service reads itself are fields of `Settings`.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final

from app.problems import explain, is_utf8
from chatscope import invalid_variables

_PREFIX: Final = "OTEL_"
_HEADERS_FILE: Final = "CHATSCOPE_OTLP_HEADERS_FILE"
_SIGNALS: Final = ("TRACES", "METRICS", "LOGS")


@dataclass(frozen=True)
class Restriction:
    """The only accepted value of a variable; without one, none is, for the reason given."""

    value: str | None
    accepts: str
    reason: str = ""


_EXPORTER: Final = Restriction("otlp", "otlp; OTEL_SDK_DISABLED=true switches telemetry off")
_OWN_CLIENT: Final = Restriction(None, "no value", "the service has a client of its own")
_OWN_PROVIDER: Final = Restriction(None, "no value", "the service installs its own provider")
RESTRICTIONS: Final[Mapping[str, Restriction]] = {
    **{f"OTEL_{signal}_EXPORTER": _EXPORTER for signal in _SIGNALS},
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": Restriction(
        "explicit_bucket_histogram", "explicit_bucket_histogram"
    ),
    **{
        f"OTEL_PYTHON_EXPORTER_OTLP_GRPC_{name}": _OWN_CLIENT
        for name in (
            "CREDENTIAL_PROVIDER",
            *(f"{signal}_CREDENTIAL_PROVIDER" for signal in _SIGNALS),
            "RETRYABLE_ERROR_CODES",
        )
    },
    **{f"OTEL_PYTHON_{kind}_PROVIDER": _OWN_PROVIDER for kind in ("TRACER", "METER", "LOGGER")},
}


def problems(environ: Mapping[str, str]) -> list[str]:
    """Return one line for each variable whose value is not accepted."""
    found: list[str] = []
    unrestricted: dict[str, str] = {}
    for name, value in environ.items():
        text = value.strip()
        if not name.startswith(_PREFIX) or not text:
            continue
        if not is_utf8(text):
            found.append(explain(name, text, "text in UTF-8"))
        elif not (restriction := RESTRICTIONS.get(name)):
            unrestricted[name] = text
        elif text != restriction.value:
            found.append(explain(name, text, restriction.accepts, reason=restriction.reason))
    if file := environ.get(_HEADERS_FILE, "").strip():
        unrestricted[_HEADERS_FILE] = file
    found += [
        explain(each.variable, each.value, each.accepts, reason=each.reason)
        for each in invalid_variables(unrestricted)
    ]
    return found


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
