"""What to do about a fault that `chatscope doctor` has found."""

from typing import Final

from chatscope.cli.addresses import Place
from chatscope.otlp.client import UNREACHABLE, Result
from chatscope.otlp.settings import HEADERS_FILE, EndpointSettings

COLLECTOR_LOG: Final = "see the Collector's log (in a checkout: make logs PART=collector)"
_DENIED: Final = ("UNAUTHENTICATED", "PERMISSION_DENIED", "401", "403")
_FULL: Final = ("RESOURCE_EXHAUSTED", "429", "503")
_NO_CONNECTION: Final = ("UNAVAILABLE", UNREACHABLE)


def of_place(place: Place) -> str:
    """Return the fix of a component that is not where it is looked for."""
    return f"start it (in a checkout: make up), or set {place.variable} to where it is"


def behind_gateway(place: Place) -> str:
    """Return the fix of a backend that its gateway does not reach."""
    return f"start {place.name} (in a checkout: make logs PART={place.name.lower()} shows why)"


def of_send(result: Result, endpoint: EndpointSettings) -> str:
    """Return the fix of an export that was not accepted."""
    if result.error_type in _DENIED:
        return (
            f"set {HEADERS_FILE} to a file with its token (in a checkout: "
            ".chatscope/run/secrets/operator/otlp_headers), or OTEL_EXPORTER_OTLP_HEADERS="
            "authorization=Bearer%20TOKEN"
        )
    if result.error_type in _FULL:
        return f"its queue or its memory is full: {COLLECTOR_LOG}"
    if endpoint.tls and result.error_type in _NO_CONNECTION:
        return (
            "use http:// in OTEL_EXPORTER_OTLP_ENDPOINT if the Collector has no TLS; otherwise set "
            "OTEL_EXPORTER_OTLP_CERTIFICATE to the certificate of its authority"
        )
    return (
        "maybe it is no OTLP receiver of this protocol: port 4317 is for "
        "OTEL_EXPORTER_OTLP_PROTOCOL=grpc, port 4318 for http/protobuf (now: "
        f"{endpoint.protocol}); otherwise {COLLECTOR_LOG}"
    )


def of_delivery(place: Place) -> str:
    """Return the fix of a backend that does not get what the Collector has accepted."""
    return (
        f"check that the Collector exports to this {place.name}; {COLLECTOR_LOG}: it names the "
        "exporter that fails. What it could not deliver waits there"
    )
