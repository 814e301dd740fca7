"""Settings of the telemetry, read and validated without importing the OpenTelemetry SDK.

The SDK reads some variables while it is imported, and raises for an invalid value or replaces it
silently. So the variables are checked here, before anything imports the SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chatscope.redaction.rules import KINDS, invalid_patterns
from chatscope.redaction.values import secret_values
from chatscope.sdk_variables import invalid_variables

if TYPE_CHECKING:
    from chatscope.genai.pricing import PriceTable

DEFAULT_PREFIX: Final = "chatscope"
_VARIABLE: Final = "variable"
_HOUR_MS: Final = 3_600_000
_LONGEST_QUEUE: Final = 10_000_000
_LARGEST_SPOOL: Final = 2**50
_SHORTEST_KEY: Final = 16
# loguru's, which has those of the standard library.
LEVELS: Final = {
    "TRACE": 5,
    "DEBUG": 10,
    "INFO": 20,
    "SUCCESS": 25,
    "WARNING": 30,
    "ERROR": 40,
    "CRITICAL": 50,
}
# https://opentelemetry.io/docs/specs/semconv/general/naming/
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")


class SettingsError(ValueError):
    """Invalid settings; `problems` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class _Kind:
    """How a value is read from text and checked; `read` raises ValueError."""

    accepts: str
    read: Callable[[str], Any]
    check: Callable[[Any], bool]


def _number(unit: str, least: int, most: int) -> _Kind:
    return _Kind(
        f"a whole number{unit} from {least} to {most}",
        int,
        lambda value: type(value) is int and least <= value <= most,
    )


def _one_of(*values: str) -> _Kind:
    return _Kind(
        " or ".join([", ".join(values[:-1]), values[-1]]),
        lambda value: value.upper() if value.upper() in values else value,
        lambda value: value in values,
    )


def _read_boolean(value: str) -> bool:
    return {"true": True, "false": False}[value.lower()]


# By value: whether texts are recorded on spans, and as events.
_CAPTURES: Final = {
    "NO_CONTENT": (False, False),
    "SPAN_ONLY": (True, False),
    "EVENT_ONLY": (False, True),
    "SPAN_AND_EVENT": (True, True),
    "TRUE": (True, False),
    "FALSE": (False, False),
}


def _read_capture(value: str) -> bool:
    return _CAPTURES[value.upper()][0]


def _read_capture_events(value: str) -> bool:
    return _CAPTURES[value.upper()][1]


def _read_paths(value: str) -> frozenset[str]:
    return frozenset(part.strip() for part in value.split(",") if part.strip())


def _read_kinds(value: str) -> frozenset[str]:
    words = _read_paths(value.lower())
    return frozenset() if words == {"none"} else words


_REDACTED: Final = _Kind(
    f"{', '.join(KINDS)} separated by commas, or none",
    _read_kinds,
    lambda value: not isinstance(value, str) and set(KINDS).issuperset(value),
)
_KEY: Final = _Kind(
    "a secret text of at least 16 characters",
    str,
    lambda value: isinstance(value, str) and len(value) >= _SHORTEST_KEY,
)
_TEXT: Final = _Kind("text", str, lambda value: isinstance(value, str) and bool(value))
_PREFIXES: Final = _Kind(
    "words of letters, digits and _, separated by dots",
    str,
    lambda value: isinstance(value, str) and bool(_NAME.fullmatch(value)),
)
_BOOLEAN: Final = _Kind("true or false", _read_boolean, lambda value: isinstance(value, bool))
_CAPTURE: Final = _Kind(
    "NO_CONTENT, EVENT_ONLY, SPAN_ONLY, SPAN_AND_EVENT, true or false",
    _read_capture,
    lambda value: isinstance(value, bool),
)
_CAPTURE_EVENTS: Final = replace(_CAPTURE, read=_read_capture_events)
_MIDDLEWARE: Final = _Kind(
    "chatscope or stock", str.lower, lambda value: value in ("chatscope", "stock")
)
_PATHS: Final = _Kind(
    "paths that begin with /, separated by commas",
    _read_paths,
    lambda value: (
        not isinstance(value, str)
        and all(isinstance(path, str) and path.startswith("/") for path in value)
    ),
)
_DIRECTORY: Final = _Kind(
    "a directory",
    lambda value: Path(value).expanduser(),
    lambda value: isinstance(value, Path) and (value.is_dir() or not value.exists()),
)
_DELAY: Final = _number(" of milliseconds", 1, _HOUR_MS)
_QUEUE: Final = _number("", 1, _LONGEST_QUEUE)


def _setting(default: Any, variable: str, kind: _Kind, meaning: str) -> Any:
    about = {_VARIABLE: variable, "kind": kind, "meaning": meaning}
    return field(default=default, metadata=about, repr=not variable.endswith("_KEY"))


@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    """All settings; `OTEL_EXPORTER_OTLP_*` says where telemetry is sent (docs/otlp.md).

    Raises SettingsError with all problems.
    """

    service_name: str | None = _setting(
        None, "OTEL_SERVICE_NAME", _TEXT, "Name of the service on all telemetry."
    )
    service_version: str | None = None
    environment: str | None = None  # deployment.environment.name
    endpoint: str | None = None  # where no OTEL_EXPORTER_OTLP_*ENDPOINT names one
    span_delay_ms: int = _setting(
        200, "OTEL_BSP_SCHEDULE_DELAY", _DELAY, "Interval between exports of spans, in ms."
    )
    log_delay_ms: int = _setting(
        200, "OTEL_BLRP_SCHEDULE_DELAY", _DELAY, "Interval between exports of log records, in ms."
    )
    metric_interval_ms: int = _setting(
        1000, "OTEL_METRIC_EXPORT_INTERVAL", _DELAY, "Interval between exports of metrics, in ms."
    )
    # An item takes 3.3 kB (bench/queues.py), so full queues take 80 MB: a minute of 50 turns a
    # second. They fill only where the receiver is unreachable and there is no spool.
    span_queue: int = _setting(
        16_384, "OTEL_BSP_MAX_QUEUE_SIZE", _QUEUE, "Spans in memory; the oldest is dropped then."
    )
    log_queue: int = _setting(8_192, "OTEL_BLRP_MAX_QUEUE_SIZE", _QUEUE, "Log records in memory.")
    # Items are encoded one by one as they end; a larger batch takes less CPU for each.
    span_batch: int = _setting(
        512, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _QUEUE, "Largest number of spans in one export."
    )
    log_batch: int = _setting(
        512,
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
        _QUEUE,
        "Largest number of records in one export.",
    )
    spool_dir: Path | None = _setting(  # noqa: RUF009
        None, "CHATSCOPE_SPOOL_DIR", _DIRECTORY,
        "Keeps on disk what the receiver does not accept; unset: in memory.",
    )  # fmt: skip
    # An item takes 130 to 250 bytes in the spool: more than an hour at 50 turns a second.
    spool_bytes: int = _setting(
        256 * 1024 * 1024, "CHATSCOPE_SPOOL_BYTES",
        _number(" of bytes", 1_048_576, _LARGEST_SPOOL),
        "Largest size of the spool; then the oldest are dropped.",
    )  # fmt: skip
    log_level: str = _setting(
        "INFO", "CHATSCOPE_LOG_LEVEL", _one_of(*LEVELS), "Lowest level that is exported."
    )
    quiet_paths: frozenset[str] = _setting(
        frozenset({"/healthz", "/readyz"}), "CHATSCOPE_QUIET_PATHS", _PATHS,
        "Paths of health checks, with the root path: no span, no metric, no access record.",
    )  # fmt: skip
    http_instrumentation: str = _setting(
        "chatscope", "CHATSCOPE_HTTP_INSTRUMENTATION", _MIDDLEWARE,
        "Records HTTP requests: chatscope's middleware, or opentelemetry-instrumentation-asgi.",
    )  # fmt: skip
    prefix: str = _setting(
        DEFAULT_PREFIX, "CHATSCOPE_PREFIX", _PREFIXES,
        "Prefix of metrics without a semantic convention.",
    )  # fmt: skip
    scope: str = _setting(
        DEFAULT_PREFIX, "CHATSCOPE_SCOPE", _TEXT, "Instrumentation scope of spans and metrics."
    )
    process_metrics: bool = _setting(
        True, "CHATSCOPE_PROCESS_METRICS", _BOOLEAN, "Export `process.*` and `cpython.*` metrics."
    )
    event_loop_metrics: bool = _setting(
        False, "CHATSCOPE_EVENT_LOOP_METRICS", _BOOLEAN, "Export `PREFIX.event_loop.*` metrics."
    )
    # `PREFIX.spool.*`; with a directory they are exported anyway.
    spool_metrics: bool = False
    capture_content: bool = _setting(
        False, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", _CAPTURE,
        "Record the texts of prompts and responses on spans.",
    )  # fmt: skip
    capture_events: bool = _setting(
        False, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", _CAPTURE_EVENTS,
        "Record them as log records `gen_ai.client.inference.operation.details`.",
    )  # fmt: skip
    redact: frozenset[str] = _setting(
        frozenset(KINDS), "CHATSCOPE_REDACT", _REDACTED,
        "Kinds of secrets and personal data that are replaced in all telemetry.",
    )  # fmt: skip
    # Texts that are secrets, beside those in the environment; regular expressions by name.
    redact_values: frozenset[str] = field(default=frozenset(), repr=False)
    redact_patterns: Mapping[str, str] = field(default_factory=dict)
    user_id_key: str | None = _setting(
        None, "CHATSCOPE_USER_ID_KEY", _KEY,
        "With it, a pseudonym takes the place of each `user.id`.",
    )  # fmt: skip
    # Take over loguru and the standard library's logging, and print their records; by default the
    # application's handlers are left alone.
    console: bool = False
    # Models whose names may appear on metrics; others are reported as `_OTHER`.
    known_models: frozenset[str] = frozenset()
    prices: PriceTable | None = None  # None: the shipped one

    def __post_init__(self) -> None:
        problems = [
            _problem(each.name, value, kind.accepts)
            for each in fields(self)
            if (kind := each.metadata.get("kind"))
            and (value := getattr(self, each.name)) != each.default
            and not _is_valid(kind, value)
        ]
        problems += [
            _problem(name, value, _TEXT.accepts)
            for name in ("service_version", "environment", "endpoint")
            if (value := getattr(self, name)) is not None and not isinstance(value, str)
        ]
        problems += invalid_patterns(self.redact_patterns)
        if problems:
            raise SettingsError(problems)


def load_settings(environ: Mapping[str, str], **options: Any) -> TelemetrySettings:
    """Read the settings from `environ`; `options` replace them by field name.

    An option is a value of its field's type, or a text as the variable accepts it.

    An empty variable counts as unset. Raises SettingsError with all problems: of the variables,
    of the options, of `OTEL_EXPORTER_OTLP_*`, and of variables that the SDK reads.
    """
    known = {each.name: each for each in fields(TelemetrySettings)}
    problems = [
        f"{name} is not a setting; there are {', '.join(sorted(known))}"
        for name in options
        if name not in known
    ]
    values = _read(environ, known, options, problems)
    invalid = invalid_variables(environ, endpoint=options.get("endpoint"))
    problems += [str(problem) for problem in invalid]
    if problems:
        raise SettingsError(problems)
    found = frozenset(values.get("redact_values", ())) | secret_values(environ)
    return TelemetrySettings(**{**values, "redact_values": found})


def variables() -> Iterator[tuple[str, str, str, object]]:
    """Yield the variable, the meaning, what is accepted and the default of each setting."""
    for each in fields(TelemetrySettings):
        if each.metadata:
            yield (
                each.metadata[_VARIABLE],
                each.metadata["meaning"],
                each.metadata["kind"].accepts,
                each.default,
            )


def _read(
    environ: Mapping[str, str],
    known: Mapping[str, Field[Any]],
    options: Mapping[str, Any],
    problems: list[str],
) -> dict[str, Any]:
    values = {}
    for name, each in known.items():
        kind = each.metadata.get("kind")
        if name in options:
            shown, given = name, options[name]
        elif kind and (given := environ.get(each.metadata[_VARIABLE], "").strip()):
            shown = each.metadata[_VARIABLE]
        else:
            continue
        values[name] = given
        if not kind:
            continue
        try:
            values[name] = kind.read(given) if isinstance(given, str) and given else given
        except (ValueError, KeyError, RuntimeError):
            problems.append(_problem(shown, given, kind.accepts))
        else:
            if values[name] != each.default and not _is_valid(kind, values[name]):
                problems.append(_problem(shown, given, kind.accepts))
    return values


def _is_valid(kind: _Kind, value: object) -> bool:
    try:
        return kind.check(value)
    except (TypeError, ValueError, OSError):
        return False


def _problem(name: str, value: object, accepts: str) -> str:
    shown = "***" if name.lower().endswith("_key") else repr(value)
    return f"{name} must be {accepts} (got {shown})"
