"""Names that the service does not make: what the Collector derives from its spans, what the
parts of the stack tell of themselves, and the words of Loki and TraceQL.
"""

from dataclasses import dataclass
from typing import Final

from app.telemetry.names import ERROR_TYPE, GEN_AI_REQUEST_MODEL, HTTP_ROUTE


@dataclass(frozen=True)
class Series:
    """A metric of another part: its name in Prometheus and the labels that matter to boards.

    `of_service` tells that it has `service_name`, as the service's own have.
    """

    prometheus: str
    attributes: tuple[str, ...] = ()
    of_service: bool = False


# -- span metrics, made by the Collector from the service's spans ---------------------

SPAN_NAME: Final = "span_name"
SPAN_KIND: Final = "span_kind"
STATUS_CODE: Final = "status_code"
KIND_SERVER: Final = "SPAN_KIND_SERVER"
STATUS_ERROR: Final = "STATUS_CODE_ERROR"

_SPAN: Final = (SPAN_NAME, SPAN_KIND, STATUS_CODE, GEN_AI_REQUEST_MODEL, ERROR_TYPE, HTTP_ROUTE)
SPAN_CALLS: Final = Series("traces_span_metrics_calls_total", _SPAN, of_service=True)
SPAN_SECONDS: Final = Series("traces_span_metrics_duration_seconds", _SPAN, of_service=True)

# -- the parts of the stack --------------------------------------------------------

UP: Final = Series("up")
JOB: Final = "job"

# -- Loki ------------------------------------------------------------------------------

SERVICE_NAME: Final = "service.name"
SEVERITY: Final = "severity_text"
TRACE_ID: Final = "trace_id"

# What a histogram's name gets; not names of their own.
HISTOGRAM_PARTS: Final = ("bucket", "sum", "count")

SERIES: Final[tuple[Series, ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Series)
)
"""All metrics of others that a board may ask for."""
