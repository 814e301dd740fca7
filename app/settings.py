"""The environment, read once into one frozen settings object; no other module reads it.

Nothing here imports the OpenTelemetry SDK, which raises for some invalid variables while it is
imported (see `app.otel_environment`).
"""

import os
import string
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app import otel_environment
from app.problems import explain, is_utf8
from chatscope.genai.pricing import PriceTable
from chatscope.otlp.proxy import is_loopback
from chatscope.settings import TelemetrySettings

VERSION = "0.1.0"
SIMULATED_MODEL = "simulated-1"
OPENAI_URL = "https://api.openai.com/v1"


class SettingsError(ValueError):
    """The environment has invalid values; `problems` has a line for each variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _setting(
    default: Any,
    variable: str,
    sentence: str,
    accepts: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    le: float | None = None,
) -> Any:
    return Field(
        default,
        validation_alias=variable,
        description=sentence,
        json_schema_extra={"accepts": accepts},
        gt=gt,
        ge=ge,
        le=le,
    )


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _true_or_false(value: object) -> object:
    """Accept what the SDK, which reads the same variable, understands: it takes `1` for false."""
    if not isinstance(value, str):
        return value
    return {"true": True, "false": False}.get(value.lower(), value)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


StrictBoolean = Annotated[bool, BeforeValidator(_true_or_false), Strict()]
CommaList = Annotated[tuple[str, ...], BeforeValidator(_split)]
LogLevel = Annotated[
    Literal["TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(_upper),
]
ContentCapture = Annotated[
    Literal["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT", "TRUE", "FALSE"],
    BeforeValidator(_upper),
]
HttpInstrumentation = Annotated[Literal["chatscope", "stock"], BeforeValidator(_lower)]
# Timers of the event loop and of threads overflow, each at another number, far above a week.
_WEEK = 604_800
_SECONDS = f"a number of seconds from 0 to {_WEEK}"
_RATE = "a number from 0 (never) to 1 (always)"
_ABOVE_ZERO = f"a number of seconds above 0, up to {_WEEK}"
_ONE_OR_MORE = "a whole number, 1 or more"
_HOUR_MS = 3_600_000
_MILLISECONDS = f"a whole number of milliseconds from 1 to {_HOUR_MS}"
_LONGEST_QUEUE = 10_000_000
_QUEUE = f"a whole number from 1 to {_LONGEST_QUEUE}"
_LARGEST_SPOOL = 2**50
_HOST_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._")


def _expand_home(value: object) -> object:
    """Expand `~` as a shell does, which leaves it alone in .env and after `NAME=`."""
    return os.path.expanduser(value) if isinstance(value, str) else value


_Place = Annotated[Path, BeforeValidator(_expand_home)]


class Settings(BaseSettings):
    """All settings of the service: default, variable, meaning, and what is accepted.

    A field that depends on another stands below it, so that each problem is told at its own.
    """

    model_config = SettingsConfigDict(
        frozen=True, validate_by_name=True, extra="forbid", allow_inf_nan=False
    )

    host: str = _setting("127.0.0.1", "HOST", "Address to listen on.", "an address or host name")
    port: int = _setting(
        3000, "PORT", "Port to listen on; 0 takes a free one.",
        "a whole number from 0 to 65535", ge=0, le=65535,
    )  # fmt: skip
    frontend_url: CommaList = _setting(
        (), "FRONTEND_URL",
        "Web origins, besides our own, that may use the service from a browser, with credentials.",
        "a comma list of exact origins, scheme://host[:port] as a browser sends them: http or "
        "https, no path, no default port, no *",
    )  # fmt: skip
    log_level: LogLevel = _setting(
        "INFO", "LOG_LEVEL", "Least level that is logged.",
        "TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR or CRITICAL",
    )  # fmt: skip
    max_body_bytes: int = _setting(
        1_048_576, "MAX_BODY_BYTES", "Largest request body and WebSocket message, in bytes.",
        "a whole number, 1024 or more", ge=1024,
    )  # fmt: skip
    max_message_chars: int = _setting(
        100_000, "MAX_MESSAGE_CHARS", "Longest single message of a conversation, in characters.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    max_request_messages: int = _setting(
        1000, "MAX_REQUEST_MESSAGES", "Most messages of one HTTP request.", _ONE_OR_MORE, ge=1
    )
    max_request_chars: int = _setting(
        500_000, "MAX_REQUEST_CHARS",
        "Longest conversation, in characters: the messages of an HTTP request together, and what "
        "a WebSocket connection remembers.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    max_header_bytes: int = _setting(
        65_536, "MAX_HEADER_BYTES", "Largest head of a request: its URL and headers, in bytes.",
        "a whole number, 1024 or more", ge=1024,
    )  # fmt: skip
    max_answers: int = _setting(
        100, "MAX_ANSWERS", "Most answers on their way at the same time, in each worker.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    max_connections: int = _setting(
        1000, "MAX_CONNECTIONS", "Most WebSocket connections at the same time, in each worker.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    receive_timeout_seconds: float = _setting(
        30.0, "RECEIVE_TIMEOUT_SECONDS",
        "Longest wait for the whole head of a request, and again for its whole body, in seconds.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip
    send_timeout_seconds: float = _setting(
        30.0, "SEND_TIMEOUT_SECONDS",
        "Longest wait for a client that does not read, before its connection is cut, in seconds.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip
    socket_idle_seconds: float = _setting(
        3600.0, "SOCKET_IDLE_SECONDS",
        "A WebSocket connection on which both sides are silent for this long is closed.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip
    # With the rest of a shutdown (app/shutdown.py) this stays below the ten seconds after which
    # `docker stop` kills.
    shutdown_grace_seconds: float = _setting(
        4.0, "SHUTDOWN_GRACE_SECONDS",
        "How long responses may go on after SIGTERM. The process has ended 5 s after that, "
        "whatever hangs.",
        _SECONDS, ge=0, le=_WEEK,
    )  # fmt: skip
    workers: int = _setting(
        1, "WORKERS", "Processes that serve; `--workers` wins.",
        "a whole number from 1 to 256", ge=1, le=256,
    )  # fmt: skip
    history_messages: int = _setting(
        40, "HISTORY_MESSAGES",
        "Messages, in whole turns, that a WebSocket connection remembers; 0: none.",
        "a whole number, 0 or more", ge=0,
    )  # fmt: skip

    answer_stall_seconds: float = _setting(
        120.0, "ANSWER_STALL_SECONDS",
        "Longest silence of any model, before its first piece of an answer and between two, "
        "in seconds; past it the answer fails.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip

    openai_base_url: str | None = _setting(
        None, "OPENAI_BASE_URL",
        f"Base URL of an OpenAI-compatible endpoint; OpenAI's own ({OPENAI_URL}) unless set.",
        "an http or https URL",
    )  # fmt: skip
    openai_api_key: SecretStr | None = _setting(
        None,
        "OPENAI_API_KEY",
        "Key for that endpoint; many local ones want none.",
        "a key of printable ASCII characters without blanks",
    )
    openai_models: CommaList = _setting(
        (), "OPENAI_MODELS",
        "Models asked of that endpoint; unset: it is not used. They win over a simulated model "
        "of the same name.",
        "a comma list of model names, together with OPENAI_API_KEY or OPENAI_BASE_URL",
    )  # fmt: skip
    openai_timeout_seconds: float = _setting(
        60.0, "OPENAI_TIMEOUT_SECONDS", "Longest silence of that endpoint in one try, in seconds.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip
    openai_connect_timeout_seconds: float = _setting(
        5.0, "OPENAI_CONNECT_TIMEOUT_SECONDS",
        "Longest wait for a connection to it in one try, in seconds.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip
    openai_max_retries: int = _setting(
        2, "OPENAI_MAX_RETRIES", "Further tries of a call that failed before its first token.",
        "a whole number from 0 to 10", ge=0, le=10,
    )  # fmt: skip
    default_model: str | None = _setting(
        None, "DEFAULT_MODEL",
        f"Model of a request that names none; unset: the first of OPENAI_MODELS, "
        f"else {SIMULATED_MODEL}.",
        f"one of OPENAI_MODELS, or {SIMULATED_MODEL}",
    )  # fmt: skip

    simulated_tokens_per_second: float = _setting(
        80.0, "SIMULATED_TOKENS_PER_SECOND", "Speed of the simulated model; 0: no pause at all.",
        "a number, 0 or more", ge=0,
    )  # fmt: skip
    simulated_first_token_seconds: float = _setting(
        0.2, "SIMULATED_FIRST_TOKEN_SECONDS", "Wait before its first token.",
        _SECONDS, ge=0, le=_WEEK,
    )  # fmt: skip
    simulated_answer_tokens: int = _setting(
        60, "SIMULATED_ANSWER_TOKENS",
        "Length of its answers in tokens (words); each has between half and one and a half of it.",
        "a whole number, 1 or more", ge=1,
    )  # fmt: skip
    simulated_error_rate: float = _setting(
        0.0, "SIMULATED_ERROR_RATE", "Share of its answers that fail.", _RATE, ge=0, le=1
    )
    simulated_stall_rate: float = _setting(
        0.0, "SIMULATED_STALL_RATE", "Share of its answers that stall once.", _RATE, ge=0, le=1
    )
    simulated_stall_seconds: float = _setting(
        5.0, "SIMULATED_STALL_SECONDS", "Length of such a stall.", _SECONDS, ge=0, le=_WEEK
    )
    simulated_seed: int = _setting(
        1, "SIMULATED_SEED", "Same seed and same messages: same words.", "a whole number"
    )

    prices_file: _Place | None = _setting(
        None, "PRICES_FILE",
        "Price table in place of the shipped one (chatscope/genai/prices.json).",
        'a JSON file, {"model": {"prompt": USD, "completion": USD}}, each for a million tokens',
    )  # fmt: skip
    otel_service_name: str = _setting(
        "chatscope", "OTEL_SERVICE_NAME", "Name of the service on all telemetry.", "a name"
    )
    otel_bsp_schedule_delay: int = _setting(
        200, "OTEL_BSP_SCHEDULE_DELAY", "Spans leave this often, in ms.",
        _MILLISECONDS, ge=1, le=_HOUR_MS,
    )  # fmt: skip
    otel_blrp_schedule_delay: int = _setting(
        200, "OTEL_BLRP_SCHEDULE_DELAY", "Logs leave this often, in ms.",
        _MILLISECONDS, ge=1, le=_HOUR_MS,
    )  # fmt: skip
    otel_bsp_max_queue_size: int = _setting(
        16_384, "OTEL_BSP_MAX_QUEUE_SIZE",
        "Spans that wait in memory, where no disk takes them; then the oldest is dropped,"
        " and counted.",
        _QUEUE, ge=1, le=_LONGEST_QUEUE,
    )  # fmt: skip
    otel_bsp_max_export_batch_size: int = _setting(
        64, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "Most spans in one export, no more than can wait.",
        _QUEUE, ge=1, le=_LONGEST_QUEUE,
    )  # fmt: skip
    otel_blrp_max_queue_size: int = _setting(
        8_192, "OTEL_BLRP_MAX_QUEUE_SIZE", "Log records that wait.", _QUEUE, ge=1, le=_LONGEST_QUEUE
    )
    otel_blrp_max_export_batch_size: int = _setting(
        64, "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "The same for log records.",
        _QUEUE, ge=1, le=_LONGEST_QUEUE,
    )  # fmt: skip
    telemetry_spool_dir: _Place | None = _setting(
        None, "TELEMETRY_SPOOL_DIR",
        "Where spans and log records wait for a Collector that is away, on a local file system, "
        "all workers' together; unset: in memory only.",
        "a directory that can be made, and written",
    )  # fmt: skip
    telemetry_spool_bytes: int = _setting(
        268_435_456, "TELEMETRY_SPOOL_BYTES",
        "Most disk that they take, half for each; then the oldest are dropped, and counted.",
        f"a whole number from 1048576 to {_LARGEST_SPOOL}", ge=1_048_576, le=_LARGEST_SPOOL,
    )  # fmt: skip
    otel_metric_export_interval: int = _setting(
        1000, "OTEL_METRIC_EXPORT_INTERVAL", "Metrics leave this often, in ms.",
        _MILLISECONDS, ge=1, le=_HOUR_MS,
    )  # fmt: skip
    http_instrumentation: HttpInstrumentation = _setting(
        "chatscope", "CHATSCOPE_HTTP_INSTRUMENTATION",
        "Middleware that records HTTP requests: chatscope's own, or that of "
        "opentelemetry-instrumentation-asgi, to compare them.",
        "chatscope or stock",
    )  # fmt: skip
    otel_sdk_disabled: StrictBoolean = _setting(
        False, "OTEL_SDK_DISABLED", "Switches telemetry off, in the SDK itself.", "true or false"
    )
    content_capture: ContentCapture = _setting(
        "NO_CONTENT", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        "Whether spans carry the text of prompts and answers: SPAN_ONLY, SPAN_AND_EVENT or true. "
        "There are no content events, so EVENT_ONLY captures nothing.",
        "NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT, true or false",
    )  # fmt: skip

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed in: a test's settings never depend on its machine."""
        return (init_settings,)

    @field_validator("host")
    @classmethod
    def _address_or_name(cls, host: str) -> str:
        try:
            if ":" in host:
                ip_address(host.partition("%")[0])
            elif not set(host.encode("idna").decode()) <= _HOST_CHARACTERS:
                raise ValueError
        except ValueError:
            raise ValueError("neither an address, IPv6 without brackets, nor a host name") from None
        return host

    @field_validator("frontend_url")
    @classmethod
    def _exact_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _is_origin(origin):
                raise ValueError(f"{origin!r} is not an exact origin")
        return tuple(origin.lower() for origin in origins)

    @field_validator("openai_base_url")
    @classmethod
    def _web_url(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("not a web address")
        return url

    @field_validator("openai_api_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value() if key else "-"
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise ValueError("it cannot stand in a header")
        return key

    @field_validator("openai_models")
    @classmethod
    def _reachable(cls, models: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        needed = ("openai_api_key", "openai_base_url")
        if models and all(info.data.get(name, "wrong too") is None for name in needed):
            raise ValueError("neither OPENAI_API_KEY nor OPENAI_BASE_URL is set")
        return models

    @field_validator("default_model")
    @classmethod
    def _served(cls, model: str | None, info: ValidationInfo) -> str | None:
        if model and "openai_models" in info.data:
            models = (*info.data["openai_models"], SIMULATED_MODEL)
            if model not in models:
                raise ValueError(f"not served here; there are {', '.join(models)}")
        return model

    @field_validator("prices_file")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        # Reading a pipe or a device may have no end.
        if path is not None and os.path.exists(path) and not os.path.isfile(path):
            raise ValueError(f"{path} is no file")
        PriceTable.load(path)
        return path

    @field_validator("telemetry_spool_dir")
    @classmethod
    def _writable(cls, path: Path | None) -> Path | None:
        if path is not None:
            try:
                nearest = next(
                    place for place in (path, *path.absolute().parents) if place.exists()
                )
                # Asking for permissions says yes to root, also where nothing can be written.
                with TemporaryFile(dir=nearest):
                    pass
            except OSError as error:
                raise ValueError(error.strerror) from error
        return path

    @property
    def model(self) -> str:
        """The model of a request that names none."""
        return self.default_model or (*self.openai_models, SIMULATED_MODEL)[0]

    @property
    def request_limits(self) -> dict[str, int]:
        """What bounds the messages of a request, as its check wants to know."""
        names = ("max_message_chars", "max_request_messages", "max_request_chars")
        return {name: getattr(self, name) for name in names}

    def limits(self) -> dict[str, float]:
        """Every bound of the service by its short name, the one that metrics carry."""
        return {
            "answers": self.max_answers,
            "connections": self.max_connections,
            "body_bytes": self.max_body_bytes,
            "header_bytes": self.max_header_bytes,
            "message_chars": self.max_message_chars,
            "request_messages": self.max_request_messages,
            "request_chars": self.max_request_chars,
            "history_messages": self.history_messages,
            "receive_seconds": self.receive_timeout_seconds,
            "send_seconds": self.send_timeout_seconds,
            "idle_seconds": self.socket_idle_seconds,
        }

    def telemetry(self) -> TelemetrySettings:
        """What telemetry wants to know; the exporters read OTEL_EXPORTER_OTLP_* themselves."""
        return TelemetrySettings(
            service_name=self.otel_service_name,
            service_version=VERSION,
            span_delay_ms=self.otel_bsp_schedule_delay,
            log_delay_ms=self.otel_blrp_schedule_delay,
            span_queue=self.otel_bsp_max_queue_size,
            span_batch=min(self.otel_bsp_max_export_batch_size, self.otel_bsp_max_queue_size),
            log_queue=self.otel_blrp_max_queue_size,
            log_batch=min(self.otel_blrp_max_export_batch_size, self.otel_blrp_max_queue_size),
            spool_dir=self.telemetry_spool_dir,
            spool_bytes=self.telemetry_spool_bytes,
            metric_interval_ms=self.otel_metric_export_interval,
            http_instrumentation=self.http_instrumentation,
            capture_content=self.content_capture in ("SPAN_ONLY", "SPAN_AND_EVENT", "TRUE"),
            log_level=self.log_level,
            known_models=frozenset((*self.openai_models, SIMULATED_MODEL)),
            prices=PriceTable.load(self.prices_file),
        )

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Settings from a mapping; unset and empty mean the same. Raises SettingsError.

        The variables that the OpenTelemetry SDK reads itself are checked as well.
        """
        variables = [str(field.validation_alias) for field in cls.model_fields.values()]
        given = {name: value for name in variables if (value := environ.get(name, "").strip())}
        readable = {name: value for name, value in given.items() if is_utf8(value)}
        problems = [
            explain(name, value, "text in UTF-8", secret=_is_secret(_field(cls, name)))
            for name, value in given.items()
            if name not in readable
        ]
        found = None
        try:
            found = cls.model_validate(readable)
        except ValidationError as error:
            problems += [_explain(cls, readable, problem) for problem in error.errors()]
        others = {name: value for name, value in environ.items() if name not in variables}
        problems += otel_environment.problems(others)
        if found and found.openai_models:
            problems += _proxy_problems(environ, found.openai_base_url or OPENAI_URL)
        if problems or found is None:
            raise SettingsError(problems)
        return found


def load_settings(
    environ: Mapping[str, str] | None = None, *, overrides: Mapping[str, str] | None = None
) -> Settings:
    """The settings of this process, or of a mapping in its place. Raises SettingsError.

    `overrides` win over both: what the command line says.
    """
    return Settings.read({**(os.environ if environ is None else environ), **(overrides or {})})


def normalize_environment() -> None:
    """Let the OpenTelemetry SDK read this process's variables as `load_settings` does.

    To be called by a program, before the SDK is imported.
    """
    otel_environment.normalize(os.environ)


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        default_port = {"http": 80, "https": 443}[parts.scheme]
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port is not None else ""
    except (KeyError, ValueError):
        return False
    exact = text.lower() == f"{parts.scheme}://{host}{port}"
    return exact and parts.port != default_port and "*" not in text


def _proxy_problems(environ: Mapping[str, str], base_url: str) -> Iterator[str]:
    """Proxies for which the client of the models' endpoint cannot be built."""
    if is_loopback(urlsplit(base_url).hostname or ""):
        return
    for name, value in environ.items():
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy") and value:
            scheme = urlsplit(value).scheme if "://" in value else "http"
            if scheme not in ("http", "https"):
                yield explain(name, value, "an http or https URL")


def _field(settings: type[Settings], variable: str) -> FieldInfo:
    return next(f for f in settings.model_fields.values() if f.validation_alias == variable)


def _is_secret(field: FieldInfo) -> bool:
    return field.annotation == SecretStr | None


def _explain(settings: type[Settings], environ: Mapping[str, str], problem: ErrorDetails) -> str:
    variable = str(problem["loc"][0])
    field = _field(settings, variable)
    extra = field.json_schema_extra
    return explain(
        variable,
        environ[variable],
        str(extra["accepts"]) if isinstance(extra, dict) else "",
        reason=str(problem["ctx"]["error"]) if problem["type"] == "value_error" else "",
        secret=_is_secret(field),
    )
