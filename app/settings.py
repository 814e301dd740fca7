"""Settings from the environment, read once into a frozen object; no other module reads it.

Nothing here imports the OpenTelemetry SDK, which raises for some invalid variables while it is
imported (see `app.otel_environment`).
"""

import os
import stat
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from socket import gethostname
from tempfile import TemporaryFile
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

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
from app.config_file import ConfigFileError
from app.keys.file import KeysFile
from app.models_file import ModelsFile
from app.problems import explain, is_utf8, shown
from chatscope import TelemetrySettings, __version__
from chatscope.genai import PriceTable
from chatscope.otlp import is_loopback
from chatscope.redaction import KINDS, credentials_in, secret_values

VERSION = __version__
SIMULATED_MODEL = "simulated-1"
OPENAI_URL = "https://api.openai.com/v1"
_DEMO_MODELS = Path(__file__).with_name("demo_models.toml")
_DEMO_PRICES = Path(__file__).with_name("demo_prices.json")
_DEMO_KEYS = Path(__file__).with_name("demo_keys.toml")


class SettingsError(ValueError):
    """The environment has invalid values; `problems` has one line for each."""

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
    """Accept only what the SDK reads in the same way: it reads `1` as false."""
    if not isinstance(value, str):
        return value
    return {"true": True, "false": False}.get(value.lower(), value)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _kinds(value: object) -> object:
    words = _split(value.lower()) if isinstance(value, str) else value
    return () if words == ("none",) else words


StrictBoolean = Annotated[bool, BeforeValidator(_true_or_false), Strict()]
CommaList = Annotated[tuple[str, ...], BeforeValidator(_split)]
Redacted = Annotated[
    tuple[Literal["secrets", "emails", "cards", "phones"], ...], BeforeValidator(_kinds)
]
LogLevel = Annotated[
    Literal["TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(_upper),
]
ContentCapture = Annotated[
    Literal["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT", "TRUE", "FALSE"],
    BeforeValidator(_upper),
]
HttpInstrumentation = Annotated[Literal["chatscope", "stock"], BeforeValidator(_lower)]
# Timers of the event loop and of threads overflow at different values far above a week.
_WEEK = 604_800
_SECONDS = f"a number of seconds from 0 to {_WEEK}"
_RATE = "a number from 0 (never) to 1 (always)"
_ABOVE_ZERO = f"a number of seconds above 0, up to {_WEEK}"
_ONE_OR_MORE = "a whole number, 1 or more"
_HOUR_MS = 3_600_000
_MILLISECONDS = f"a whole number of milliseconds from 1 to {_HOUR_MS}"
_RATES = "a number and a time, such as 60/minute; or several: 60/minute; 1000/day"
_LONGEST_QUEUE = 10_000_000
_QUEUE = f"a whole number from 1 to {_LONGEST_QUEUE}"
_LARGEST_SPOOL = 2**50
_SHORTEST_KEY = 16
# Variables that name the file of a secret, which is the variable without `_FILE`.
_SECRET_FILES = ("_API_KEY_FILE", "SHARED_STORE_URL_FILE")
_HOST_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._")


def _expand_home(value: object) -> object:
    """Expand `~`, which a shell does not expand in .env files and after `NAME=`."""
    return os.path.expanduser(value) if isinstance(value, str) else value


_Place = Annotated[Path, BeforeValidator(_expand_home)]


class Settings(BaseSettings):
    """All settings of the service: default, variable, meaning, and what is accepted.

    A field that depends on another one must follow it: validation runs in this order.
    """

    model_config = SettingsConfigDict(
        frozen=True, validate_by_name=True, extra="forbid", allow_inf_nan=False
    )

    host: str = _setting("127.0.0.1", "HOST", "Address to listen on.", "an address or host name")
    port: int = _setting(
        3000, "PORT", "Port to listen on; 0 selects a free port.",
        "a whole number from 0 to 65535", ge=0, le=65535,
    )  # fmt: skip
    frontend_url: CommaList = _setting(
        (), "FRONTEND_URL",
        "Other web origins that may use the service from a browser, with credentials.",
        "a comma list of exact origins, scheme://host[:port] as a browser sends them: http or "
        "https, no path, no default port, no *",
    )  # fmt: skip
    allowed_hosts: CommaList = _setting(
        (), "ALLOWED_HOSTS",
        "Further names that are allowed in the Host header of requests. IP addresses, "
        "localhost and names below it, this machine's name, and the names in HOST and FRONTEND_URL "
        "always are.",
        "a comma list of host names without scheme and port; *.example.com: all names below it; "
        "*: any name",
    )  # fmt: skip
    trusted_peers: CommaList = _setting(
        ("127.0.0.0/8", "::1"), "TRUSTED_PEERS",
        "Clients and proxies whose trace context and X-Forwarded-* headers are accepted; those of "
        "others are ignored, and their requests begin a trace.",
        "a comma list of IP addresses and networks, such as 10.0.0.0/8",
    )  # fmt: skip
    grafana_public_url: str | None = _setting(
        None, "GRAFANA_PUBLIC_URL",
        "Address at which users reach Grafana, for the links of the [chat page](page.md); unset: "
        "no links.",
        "an http or https URL",
    )  # fmt: skip
    log_level: LogLevel = _setting(
        "INFO", "LOG_LEVEL", "Minimum level of logged lines.",
        "TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR or CRITICAL",
    )  # fmt: skip
    max_body_bytes: int = _setting(
        1_048_576, "MAX_BODY_BYTES",
        "Maximum size of a request body and of a WebSocket message, in bytes.",
        "a whole number, 1024 or more", ge=1024,
    )  # fmt: skip
    max_message_chars: int = _setting(
        100_000, "MAX_MESSAGE_CHARS",
        "Maximum length of one message of a conversation, in characters.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    max_request_messages: int = _setting(
        1000,
        "MAX_REQUEST_MESSAGES",
        "Maximum number of messages in one HTTP request.",
        _ONE_OR_MORE,
        ge=1,
    )
    max_request_chars: int = _setting(
        500_000, "MAX_REQUEST_CHARS",
        "Maximum length of a conversation, in characters: of the messages of an HTTP request, and "
        "of the history of a WebSocket connection.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    max_answer_tokens: int = _setting(
        131_072, "MAX_ANSWER_TOKENS",
        "Maximum number of tokens that a request may ask a model for, in all of its choices "
        "together.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    default_answer_tokens: int | None = _setting(
        None, "DEFAULT_ANSWER_TOKENS",
        "Token limit that a request gets if it has none; at most MAX_ANSWER_TOKENS. Unset: the "
        "provider's own for the model.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    max_header_bytes: int = _setting(
        65_536, "MAX_HEADER_BYTES",
        "Maximum size of a request's URL and headers together, in bytes.",
        "a whole number, 1024 or more", ge=1024,
    )  # fmt: skip
    max_answers: int = _setting(
        100, "MAX_ANSWERS", "Maximum number of concurrent responses, in each worker.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    max_connections: int = _setting(
        5000, "MAX_CONNECTIONS",
        "Maximum number of concurrent WebSocket connections, in each worker.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    max_refusal_lines: int = _setting(
        10, "MAX_REFUSAL_LINES",
        "Maximum number of log lines a second about refused requests, for each reason, on average "
        "over ten seconds; the next line has the number of those left out.",
        _ONE_OR_MORE, ge=1,
    )  # fmt: skip
    receive_timeout_seconds: float = _setting(
        30.0, "RECEIVE_TIMEOUT_SECONDS",
        "Timeout for the complete head of a request, and again for its complete body, in seconds.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip
    send_timeout_seconds: float = _setting(
        30.0, "SEND_TIMEOUT_SECONDS",
        "Time after which a client that does not read is disconnected, in seconds.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip
    socket_idle_seconds: float = _setting(
        3600.0, "SOCKET_IDLE_SECONDS",
        "Time without messages after which a WebSocket connection is closed, in seconds.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip
    # With the rest of a shutdown (app/transport/deadline.py) this stays below the ten seconds after
    # which `docker stop` kills.
    shutdown_grace_seconds: float = _setting(
        4.0, "SHUTDOWN_GRACE_SECONDS",
        "Grace period of responses after SIGTERM, in seconds. The process ends at most 5 s later, "
        "even if something hangs.",
        _SECONDS, ge=0, le=_WEEK,
    )  # fmt: skip
    workers: int = _setting(
        1, "WORKERS", "Number of worker processes; `--workers` takes precedence.",
        "a whole number from 1 to 256", ge=1, le=256,
    )  # fmt: skip
    history_messages: int = _setting(
        40, "HISTORY_MESSAGES",
        "Maximum number of messages, in complete turns, in the history of a WebSocket connection; "
        "0: no history.",
        "a whole number, 0 or more", ge=0,
    )  # fmt: skip

    answer_stall_seconds: float = _setting(
        120.0, "ANSWER_STALL_SECONDS",
        "Maximum silence of a model before the first chunk of a response and between two chunks, "
        "in seconds; then the response fails.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip

    openai_base_url: str | None = _setting(
        None, "OPENAI_BASE_URL",
        f"Base URL of an OpenAI-compatible endpoint; unset: OpenAI's own, {OPENAI_URL}.",
        "an http or https URL",
    )  # fmt: skip
    openai_api_key: SecretStr | None = _setting(
        None,
        "OPENAI_API_KEY",
        "API key of that endpoint; many local endpoints need none.",
        "a key of printable ASCII characters without blanks",
    )
    openai_models: CommaList = _setting(
        (), "OPENAI_MODELS",
        "Models of that endpoint; unset: it is not used. They take precedence over a simulated "
        "model of the same name.",
        "a comma list of model names, together with OPENAI_API_KEY or OPENAI_BASE_URL",
    )  # fmt: skip
    openai_timeout_seconds: float = _setting(
        60.0, "OPENAI_TIMEOUT_SECONDS",
        "Maximum silence of that endpoint in one attempt, in seconds; a response that is not "
        "streamed may take ten times as long.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip
    openai_connect_timeout_seconds: float = _setting(
        5.0, "OPENAI_CONNECT_TIMEOUT_SECONDS",
        "Timeout for a connection to it in one attempt, in seconds.",
        _ABOVE_ZERO, gt=0, le=_WEEK,
    )  # fmt: skip
    openai_max_retries: int = _setting(
        2, "OPENAI_MAX_RETRIES",
        "Maximum number of retries of a call that failed before its first token.",
        "a whole number from 0 to 10", ge=0, le=10,
    )  # fmt: skip
    models_file: ModelsFile | None = _setting(
        None, "MODELS_FILE",
        "Further providers, with aliases and fallbacks of their models (docs/gateway.md).",
        "a TOML file with [[providers]]",
    )  # fmt: skip
    budgets_file: _Place | None = _setting(
        None, "BUDGETS_FILE",
        "SQLite file that counts what keys have used, on a local file system, shared by all "
        "workers; unset: in memory only, which several workers do not share.",
        "a file in a writable directory, both of which are created if missing",
    )  # fmt: skip
    shared_store_url: SecretStr | None = _setting(
        None, "SHARED_STORE_URL",
        "Valkey or Redis server that all replicas share: budgets, in place of BUDGETS_FILE, and "
        "rate limits hold for all of them together ([scaling](scaling.md)). A password in it is "
        "masked.",
        "redis://user:password@host:port/database, rediss:// for TLS, or unix:///path",
    )  # fmt: skip
    shared_conversations: StrictBoolean = _setting(
        False, "SHARED_CONVERSATIONS",
        "Whether that server keeps the texts of WebSocket conversations too, for "
        "SOCKET_IDLE_SECONDS, so that a client can continue one on another replica.",
        "true or false; true together with SHARED_STORE_URL",
    )  # fmt: skip
    keys_file: KeysFile | None = _setting(
        None, "KEYS_FILE",
        "API keys of clients, with their budgets (docs/gateway.md); unset: no key is needed.",
        "a TOML file with [[keys]]; with limits and several workers, together with BUDGETS_FILE "
        "or SHARED_STORE_URL",
    )  # fmt: skip
    rate_limit_per_key: str | None = _setting(
        None, "RATE_LIMIT_PER_KEY",
        "Most requests and WebSocket messages with one API key, in each worker, or with "
        "SHARED_STORE_URL in all of them; unset: any number.",
        _RATES,
    )  # fmt: skip
    rate_limit_per_address: str | None = _setting(
        None, "RATE_LIMIT_PER_ADDRESS",
        "The same from one client address, with or without a key.",
        _RATES,
    )  # fmt: skip
    published_host: str | None = _setting(
        None, "PUBLISHED_HOST",
        "Address at which the service is published, where that is not HOST, as in a container.",
        "an address or host name",
    )  # fmt: skip
    allow_no_keys: StrictBoolean = _setting(
        False, "ALLOW_NO_KEYS",
        "Whether clients without a key may use paid models when the service is published beyond "
        "this machine: for a proxy in front of it that authenticates.",
        "true or false",
    )  # fmt: skip
    demo_providers: StrictBoolean = _setting(
        False, "DEMO_PROVIDERS",
        "Whether the simulated providers of the [demo](demo.md) are served too, with invented "
        "prices; ignored with OPENAI_MODELS or MODELS_FILE.",
        "true or false",
    )  # fmt: skip
    default_model: str | None = _setting(
        None, "DEFAULT_MODEL",
        "Model of a request without `model`; unset: the first of OPENAI_MODELS and MODELS_FILE, "
        f"otherwise {SIMULATED_MODEL}.",
        f"a model of OPENAI_MODELS or MODELS_FILE, an alias, or {SIMULATED_MODEL}",
    )  # fmt: skip

    simulated_tokens_per_second: float = _setting(
        80.0, "SIMULATED_TOKENS_PER_SECOND",
        "Speed of the simulated model; 0: no delay between tokens.",
        "a number, 0 or more", ge=0,
    )  # fmt: skip
    simulated_first_token_seconds: float = _setting(
        0.2, "SIMULATED_FIRST_TOKEN_SECONDS", "Delay before its first token, in seconds.",
        _SECONDS, ge=0, le=_WEEK,
    )  # fmt: skip
    simulated_answer_tokens: int = _setting(
        60, "SIMULATED_ANSWER_TOKENS",
        "Mean length of its responses in tokens (words); each has 50% to 150% of it.",
        "a whole number, 1 or more", ge=1,
    )  # fmt: skip
    simulated_error_rate: float = _setting(
        0.0, "SIMULATED_ERROR_RATE", "Share of its responses that fail.", _RATE, ge=0, le=1
    )
    simulated_stall_rate: float = _setting(
        0.0, "SIMULATED_STALL_RATE", "Share of its responses that stall once.", _RATE, ge=0, le=1
    )
    simulated_stall_seconds: float = _setting(
        5.0,
        "SIMULATED_STALL_SECONDS",
        "Duration of such a stall, in seconds.",
        _SECONDS,
        ge=0,
        le=_WEEK,
    )
    simulated_seed: int = _setting(
        1,
        "SIMULATED_SEED",
        "Seed of its words: the same seed and messages give the same response.",
        "a whole number",
    )

    prices_file: _Place | None = _setting(
        None, "PRICES_FILE",
        "Prices that come before those of the included table; see [cost](cost.md).",
        'a JSON file, {"model": {"prompt": USD, "completion": USD}}, each for a million tokens',
    )  # fmt: skip
    otel_service_name: str = _setting(
        "chatscope", "OTEL_SERVICE_NAME", "`service.name` of all telemetry.", "a name"
    )
    otel_bsp_schedule_delay: int = _setting(
        200, "OTEL_BSP_SCHEDULE_DELAY", "Interval at which spans are exported, in ms.",
        _MILLISECONDS, ge=1, le=_HOUR_MS,
    )  # fmt: skip
    otel_blrp_schedule_delay: int = _setting(
        200, "OTEL_BLRP_SCHEDULE_DELAY", "Interval at which log records are exported, in ms.",
        _MILLISECONDS, ge=1, le=_HOUR_MS,
    )  # fmt: skip
    otel_bsp_max_queue_size: int = _setting(
        16_384, "OTEL_BSP_MAX_QUEUE_SIZE",
        "Maximum number of spans queued in memory if there is no spool; then the oldest is "
        "dropped and counted.",
        _QUEUE, ge=1, le=_LONGEST_QUEUE,
    )  # fmt: skip
    otel_bsp_max_export_batch_size: int = _setting(
        64, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "Maximum number of spans in one export; at most the queue size.",
        _QUEUE, ge=1, le=_LONGEST_QUEUE,
    )  # fmt: skip
    otel_blrp_max_queue_size: int = _setting(
        8_192,
        "OTEL_BLRP_MAX_QUEUE_SIZE",
        "The same for log records.",
        _QUEUE,
        ge=1,
        le=_LONGEST_QUEUE,
    )
    otel_blrp_max_export_batch_size: int = _setting(
        64, "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "The same for log records.",
        _QUEUE, ge=1, le=_LONGEST_QUEUE,
    )  # fmt: skip
    telemetry_spool_dir: _Place | None = _setting(
        None, "TELEMETRY_SPOOL_DIR",
        "Directory of the spool for spans and log records while the Collector is unreachable, on a "
        "local file system, shared by all workers; unset: in memory only.",
        "a writable directory, which is created if missing",
    )  # fmt: skip
    telemetry_spool_bytes: int = _setting(
        268_435_456, "TELEMETRY_SPOOL_BYTES",
        "Maximum size of the spool in bytes, half for each; then the oldest are dropped and "
        "counted.",
        f"a whole number from 1048576 to {_LARGEST_SPOOL}", ge=1_048_576, le=_LARGEST_SPOOL,
    )  # fmt: skip
    otel_metric_export_interval: int = _setting(
        1000, "OTEL_METRIC_EXPORT_INTERVAL", "Interval at which metrics are exported, in ms.",
        _MILLISECONDS, ge=1, le=_HOUR_MS,
    )  # fmt: skip
    http_instrumentation: HttpInstrumentation = _setting(
        "chatscope", "CHATSCOPE_HTTP_INSTRUMENTATION",
        "Middleware that records HTTP requests: chatscope's own, or that of "
        "opentelemetry-instrumentation-asgi, to compare them.",
        "chatscope or stock",
    )  # fmt: skip
    otel_sdk_disabled: StrictBoolean = _setting(
        False,
        "OTEL_SDK_DISABLED",
        "Whether telemetry is switched off, in the SDK itself.",
        "true or false",
    )
    content_capture: ContentCapture = _setting(
        "NO_CONTENT", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        "Where the texts of prompts and responses are recorded: on spans (SPAN_ONLY or true), as "
        "log records (EVENT_ONLY), or both (SPAN_AND_EVENT).",
        "NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT, true or false",
    )  # fmt: skip
    redact: Redacted = _setting(
        KINDS, "CHATSCOPE_REDACT",
        "Kinds of secrets and personal data that are replaced in all telemetry "
        "(docs/privacy.md).",
        f"a comma list of {', '.join(KINDS)}, or none",
    )  # fmt: skip
    user_id_key: SecretStr | None = _setting(
        None, "CHATSCOPE_USER_ID_KEY",
        "With it, a pseudonym takes the place of each `user.id` (docs/privacy.md).",
        "a secret text of at least 16 characters",
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
        """Use arguments only: the settings of a test must not depend on the machine."""
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

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            name = host.removeprefix("*.") if host != "*" else "any"
            if not name or not set(name) <= _HOST_CHARACTERS:
                raise ValueError(f"{host!r} is not a host name")
        return tuple(host.lower().rstrip(".") for host in hosts)

    @field_validator("trusted_peers")
    @classmethod
    def _networks(cls, peers: tuple[str, ...]) -> tuple[str, ...]:
        for peer in peers:
            try:
                ip_network(peer)
            except ValueError:
                raise ValueError(f"{peer!r} is neither an address nor a network") from None
        return peers

    @field_validator("openai_base_url", "grafana_public_url")
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
            raise ValueError("it is not valid in a header")
        return key

    @field_validator("user_id_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key and len(key.get_secret_value()) < _SHORTEST_KEY:
            raise ValueError("it is too short")
        return key

    @field_validator("openai_models")
    @classmethod
    def _reachable(cls, models: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        needed = ("openai_api_key", "openai_base_url")
        if models and all(info.data.get(name, "invalid") is None for name in needed):
            raise ValueError("neither OPENAI_API_KEY nor OPENAI_BASE_URL is set")
        return models

    @field_validator("default_model")
    @classmethod
    def _served(cls, model: str | None, info: ValidationInfo) -> str | None:
        if model and {"openai_models", "models_file"} <= info.data.keys():
            file: ModelsFile | None = info.data["models_file"]
            if info.data.get("demo_providers") and not file and not info.data["openai_models"]:
                file = _demo_models()
            further = [*file.names, *file.aliases] if file else []
            models = (*info.data["openai_models"], *further, SIMULATED_MODEL)
            if model not in models:
                raise ValueError(f"available models: {', '.join(models)}")
        return model

    @field_validator("budgets_file")
    @classmethod
    def _creatable(cls, path: Path | None) -> Path | None:
        if path is not None:
            try:
                mode = os.stat(path).st_mode
            except FileNotFoundError:
                pass
            except OSError as error:  # such as a name that is too long
                raise ValueError(error.strerror) from None
            else:
                if not stat.S_ISREG(mode):
                    raise ValueError(f"{path} is not a file")
            _check_writable(path.parent)
        return path

    @field_validator("keys_file")
    @classmethod
    def _counted_for_all_workers(
        cls, keys: KeysFile | None, info: ValidationInfo
    ) -> KeysFile | None:
        several = info.data.get("workers", 1) > 1
        counted = ("budgets_file", "shared_store_url")
        uncounted = all(info.data.get(name, "invalid") is None for name in counted)
        if keys and keys.has_limits and several and uncounted:
            raise ValueError(
                "it has limits, and several workers share them in BUDGETS_FILE or "
                "SHARED_STORE_URL only"
            )
        return keys

    @field_validator("shared_store_url")
    @classmethod
    def _is_store(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not _is_store_url(url.get_secret_value()):
            raise ValueError("not the address of a server")
        return url

    @field_validator("shared_conversations")
    @classmethod
    def _has_store(cls, shared: bool, info: ValidationInfo) -> bool:
        if shared and info.data.get("shared_store_url", "invalid") is None:
            raise ValueError("SHARED_STORE_URL is not set")
        return shared

    @field_validator("default_answer_tokens")
    @classmethod
    def _within_maximum(cls, tokens: int | None, info: ValidationInfo) -> int | None:
        maximum = info.data.get("max_answer_tokens")
        if tokens is not None and maximum is not None and tokens > maximum:
            raise ValueError(f"MAX_ANSWER_TOKENS is {maximum}")
        return tokens

    @field_validator("rate_limit_per_key", "rate_limit_per_address")
    @classmethod
    def _is_rate(cls, rates: str | None) -> str | None:
        if rates is not None:
            _parse_rates(rates)
        return rates

    @field_validator("prices_file")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        # Reading a pipe or a device may never end.
        if path is not None and os.path.exists(path) and not os.path.isfile(path):
            raise ValueError(f"{path} is not a file")
        PriceTable.load(path)
        return path

    @field_validator("telemetry_spool_dir")
    @classmethod
    def _writable(cls, path: Path | None) -> Path | None:
        if path is not None:
            _check_writable(path)
        return path

    @property
    def host_names(self) -> frozenset[str]:
        """The names under which clients reach the service; IP addresses are not listed."""
        frontends = (urlsplit(origin).hostname or "" for origin in self.frontend_url)
        # Nobody can register a name below localhost (RFC 6761): browsers resolve it themselves.
        own = (self.host.lower(), gethostname().lower(), "localhost", "*.localhost")
        return frozenset([*own, *frontends, *self.allowed_hosts])

    @property
    def model(self) -> str:
        """The model of a request without `model`."""
        return self.default_model or self.model_names[0]

    @property
    def has_demo(self) -> bool:
        """Whether the simulated providers of the demo are served; never beside real ones, so that
        invented cost is not added to real money."""
        return self.demo_providers and not self.openai_models and not self.models_file

    @property
    def known_keys(self) -> KeysFile | None:
        """The keys of KEYS_FILE, which requests need, or those of the demo, which they do not."""
        return KeysFile.read(_DEMO_KEYS) if self.has_demo and not self.keys_file else self.keys_file

    @property
    def further_models(self) -> ModelsFile | None:
        """The providers of MODELS_FILE, or those of the demo."""
        return _demo_models() if self.has_demo else self.models_file

    @property
    def model_names(self) -> list[str]:
        """The names of all models, without aliases, that of the default model first."""
        further = self.further_models.names if self.further_models else []
        first = [SIMULATED_MODEL] if self.has_demo else self.openai_models
        return list(dict.fromkeys([*first, *further, SIMULATED_MODEL]))

    @property
    def endpoints(self) -> list[str]:
        """The base URLs of all providers that are called over the network."""
        first = [self.openai_base_url or OPENAI_URL] if self.openai_models else []
        further = self.models_file.providers if self.models_file else []
        return [*first, *(each.base_url for each in further if each.base_url)]

    @property
    def request_limits(self) -> dict[str, int]:
        """Limits of a request, for its validation, and the token limit of one without it."""
        names = (
            *("max_message_chars", "max_request_messages", "max_request_chars"),
            *("max_answer_tokens", "default_answer_tokens"),
        )
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def limits(self) -> dict[str, float]:
        """Return every limit of the service by its short name, as in metrics."""
        return {
            "answers": self.max_answers,
            "connections": self.max_connections,
            "body_bytes": self.max_body_bytes,
            "header_bytes": self.max_header_bytes,
            "message_chars": self.max_message_chars,
            "request_messages": self.max_request_messages,
            "request_chars": self.max_request_chars,
            "answer_tokens": self.max_answer_tokens,
            "history_messages": self.history_messages,
            "refusal_lines": self.max_refusal_lines,
            "receive_seconds": self.receive_timeout_seconds,
            "send_seconds": self.send_timeout_seconds,
            "idle_seconds": self.socket_idle_seconds,
            **_rates("key_requests", self.rate_limit_per_key),
            **_rates("address_requests", self.rate_limit_per_address),
        }

    def telemetry(self) -> TelemetrySettings:
        """Return the settings of telemetry; the exporters read OTEL_EXPORTER_OTLP_* themselves."""
        return TelemetrySettings(
            service_name=self.otel_service_name,
            service_version=VERSION,
            environment="local",
            console=True,
            event_loop_metrics=True,
            spool_metrics=True,
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
            capture_events=self.content_capture in ("EVENT_ONLY", "SPAN_AND_EVENT"),
            log_level=self.log_level,
            redact=frozenset(self.redact),
            redact_values=self._secrets() | secret_values(os.environ),
            user_id_key=self.user_id_key.get_secret_value() if self.user_id_key else None,
            known_models=frozenset(self.model_names),
            prices=self._prices(),
        )

    def _open_problems(self) -> Iterator[str]:
        """Yield why any client on the network could spend the operator's money."""
        published = self.published_host or self.host
        paid = [url for url in self.endpoints if not is_loopback(urlsplit(url).hostname or "")]
        if paid and not (_is_only_here(published) or self.keys_file or self.allow_no_keys):
            yield (
                f"KEYS_FILE is required: the service is published at {published}; any client "
                f"could use models of {urlsplit(paid[0]).hostname} at your expense. Create keys "
                "(docs/gateway.md), or set ALLOW_NO_KEYS=true if a proxy in front of it "
                "authenticates"
            )

    def _secrets(self) -> frozenset[str]:
        """Return the keys of all providers, in each form in which they are sent."""
        providers = self.models_file.providers if self.models_file else []
        keys = [self.openai_api_key, *(each.api_key for each in providers)]
        for each in providers:
            keys += [*each.headers.values(), *each.query.values()]
        found = {key.get_secret_value() for key in keys if key}
        store = [self.shared_store_url.get_secret_value()] if self.shared_store_url else []
        for url in (*self.endpoints, *store):
            found |= set(credentials_in(url))
        return frozenset(found)

    def _prices(self) -> PriceTable:
        """Return the prices; beside real models the simulated one has none, so adds no cost."""
        table = PriceTable.load(self.prices_file)
        if self.has_demo:
            invented = PriceTable.load(_DEMO_PRICES).prices
            return PriceTable({**invented, **table.prices}, table.table)
        return table.without_simulated() if self.endpoints else table

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Return settings from a mapping; unset and empty mean the same. Raise SettingsError.

        The variables that the OpenTelemetry SDK reads itself are validated too.
        """
        environ, problems = _with_secret_files(environ)
        variables = [str(field.validation_alias) for field in cls.model_fields.values()]
        given = {name: value for name in variables if (value := environ.get(name, "").strip())}
        readable = {name: value for name, value in given.items() if is_utf8(value)}
        problems += [
            explain(name, value, "text in UTF-8", secret=_is_secret(_field(cls, name)))
            for name, value in given.items()
            if name not in readable
        ]
        files, file_problems = _read_files(readable, environ)
        problems += file_problems
        found = None
        try:
            found = cls.model_validate({**readable, **files})
        except ValidationError as error:
            problems += [_explain(cls, readable, problem) for problem in error.errors()]
        others = {name: value for name, value in environ.items() if name not in variables}
        problems += otel_environment.problems(others)
        if found:
            problems += _proxy_problems(environ, found.endpoints)
            problems += found._open_problems()
        if problems or found is None:
            raise SettingsError(problems)
        return found


def load_settings(
    environ: Mapping[str, str] | None = None, *, overrides: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings of this process, or of a mapping. Raise SettingsError.

    `overrides` take precedence: options of the command line.
    """
    return Settings.read({**(os.environ if environ is None else environ), **(overrides or {})})


def normalize_environment() -> None:
    """Change this process's variables so that the OpenTelemetry SDK reads them as `load_settings`
    does. Must be called before the SDK is imported.
    """
    otel_environment.normalize(os.environ)


def _with_secret_files(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables with the secrets of the files that `_SECRET_FILES` name, and all
    problems. A secret in a file reaches no child process, and `docker inspect` does not show it.
    """
    found, problems = dict(environ), []
    for name, value in environ.items():
        variable = name.removesuffix("_FILE")
        if not (name.endswith(_SECRET_FILES) and value.strip()):
            continue
        if environ.get(variable, "").strip():
            problems.append(explain(name, value, f"no value, because {variable} is set"))
            continue
        try:
            path = Path(os.path.expanduser(value.strip()))
            found[variable] = path.read_text().strip()
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            problems.append(explain(name, value, "a readable file", reason=reason or ""))
    return found, problems


def _read_files(
    given: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the content of MODELS_FILE and KEYS_FILE in place of their paths, and all problems.

    A file that cannot be read is replaced by None, and with it the settings that depend on it.
    """
    taken = frozenset(_split(given.get("OPENAI_MODELS", "")))  # type: ignore[call-overload]
    others = frozenset({SIMULATED_MODEL})
    readers: dict[str, Callable[[Path], Any]] = {
        "MODELS_FILE": lambda path: ModelsFile.read(path, environ, taken=taken, others=others),
        "KEYS_FILE": KeysFile.read,
    }
    files: dict[str, Any] = {}
    problems: list[str] = []
    for name, read in readers.items():
        if name in given:
            try:
                files[name] = read(Path(os.path.expanduser(given[name])))
            except ConfigFileError as error:
                problems += [f"{name}={shown(given[name])}: {each}" for each in error.problems]
                files |= {name: None, "DEFAULT_MODEL": None}
    return files, problems


def _is_only_here(host: str) -> bool:
    """Return whether only this machine reaches what listens there; `0.0.0.0` is everywhere."""
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _rates(name: str, rates: str | None) -> dict[str, float]:
    """Return the tightest of these rates, in requests a second, by the name of the limit."""
    found = _parse_rates(rates) if rates else []
    return {name: min(found)} if found else {}


def _parse_rates(rates: str) -> list[float]:
    """Return rates in requests a second. Raise ValueError."""
    # The library is a twentieth of the time of a startup: only if there are rates.
    from limits import parse_many  # noqa: PLC0415

    try:
        return [rate.amount / rate.get_expiry() for rate in parse_many(rates)]
    except ValueError:
        raise ValueError("not a rate") from None


@cache
def _demo_models() -> ModelsFile:
    return ModelsFile.read(_DEMO_MODELS, {})


def _check_writable(directory: Path) -> None:
    """Raise ValueError unless files can be created in a directory, or in the one above it."""
    try:
        nearest = next(
            place for place in (directory, *directory.absolute().parents) if place.exists()
        )
        # Not `os.access`: for root it is always true, even on a read-only file system.
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise ValueError(error.strerror) from error


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


def _is_store_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        has_port = parts.port is None or parts.port > 0
        # Each connection would fail otherwise, with a label that is empty or too long.
        unquote(parts.hostname or "").encode("idna")
    except ValueError:
        return False
    # The client accepts no other spelling.
    if not text.startswith(f"{parts.scheme}://"):
        return False
    if parts.query or parts.fragment or not has_port:
        return False
    if parts.scheme == "unix":
        return not parts.hostname and len(parts.path) > 1
    database = parts.path.strip("/")
    is_database = not database or (database.isascii() and database.isdigit())
    return parts.scheme in ("redis", "rediss") and bool(parts.hostname) and is_database


def _proxy_problems(environ: Mapping[str, str], base_urls: Iterable[str]) -> Iterator[str]:
    """Yield proxies that the clients of the models' endpoints do not support."""
    if all(is_loopback(urlsplit(base_url).hostname or "") for base_url in base_urls):
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
