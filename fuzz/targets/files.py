"""Files and variables of the operator: models, keys, prices, settings."""

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from app.config_file import ConfigFileError
from app.keys.file import KeysFile
from app.models_file import ModelsFile
from app.otel_environment import RESTRICTIONS
from app.settings import Settings, SettingsError, load_settings
from chatscope.genai import Usage
from chatscope.genai.pricing import PriceTable, PriceTableError
from chatscope.otlp.variables import VARIABLES as OTLP_VARIABLES
from chatscope.sdk_variables import VARIABLES as SDK_VARIABLES
from fuzz.source import Source, json_input
from fuzz.target import Target, ensure

_SECRET: Final = "s3cretpassw0rd"  # noqa: S105
_LONGEST_PROBLEM: Final = 8_000


class _File:
    """A file in memory, by a path that can be opened."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("fuzz")
        self.path = Path(f"/proc/self/fd/{self._descriptor}")

    def holding(self, content: bytes) -> Path:
        """Replace the content; return the path."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)
        return self.path


_FILE: Final = _File()


def _toml(value: Any) -> str:
    """Render a value of JSON as TOML; what TOML lacks is a text."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            pairs = (f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items())
            return "{ " + ", ".join(pairs) + " }"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case int() | float():
            return repr(value)
        case _:
            return (
                json.dumps("" if value is None else value).replace("\\ud", "?").replace("\x7f", "")
            )


def _is_deep(value: Any, depth: int = 0) -> bool:
    """Whether a value is nested too deeply to be rendered here."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 100 or any(_is_deep(each, depth + 1) for each in inner)


def _toml_input(data: bytes, documents: Sequence[str], words: Sequence[str]) -> bytes:
    if data[:1] == b"\xff":
        return data[1:]
    value = Source(data).edited(documents, words)
    items = value.items() if isinstance(value, dict) else [("a", value)]
    if _is_deep(value):
        return b"a = " + b"[" * 600
    return "".join(f"{json.dumps(k)} = {_toml(v)}\n" for k, v in items).encode()


def _problems(read: Callable[[], object]) -> None:
    try:
        read()
    except ConfigFileError as error:
        ensure(error.problems, "an invalid file has a problem")
        for problem in error.problems:
            problem.encode()
            ensure(len(problem) < _LONGEST_PROBLEM and "\n" not in problem, "a problem is one line")
            ensure(_SECRET not in problem, "a secret is not shown")


_MODELS: Final = (
    json.dumps({"providers": [{"name": "p", "simulated": {}, "models": [{"name": "m"}]}]}),
    json.dumps(
        {
            "providers": [
                {
                    "name": "p",
                    "base_url": "https://a.example/v1",
                    "api_key_env": "KEY",
                    "timeout": 5.0,
                    "headers": {"x-a": _SECRET},
                    "query": {"a": _SECRET},
                    "organization": "o",
                    "models": [
                        {
                            "name": "m",
                            "upstream": "u",
                            "aliases": ["a"],
                            "fallbacks": ["n"],
                            "context_tokens": 5,
                            "embeddings": True,
                        }
                    ],
                },
                {
                    "name": "q",
                    "simulated": {
                        "error_rate": 0.5,
                        "errors": ["timeout"],
                        "phase": {"every_seconds": 5.0, "for_seconds": 1.0},
                    },
                    "models": [{"name": "n"}],
                },
                {
                    "name": "r",
                    "base_url": f"http://u:{_SECRET}@b",
                    "azure": {"api_version": "v"},
                    "api_key_file": "f",
                    "models": [{"name": "o", "fallbacks": ["m"]}],
                },
            ]
        }
    ),
)
_MODEL_WORDS: Final = (
    *("providers", "name", "base_url", "api_key_env", "api_key_file", "timeout", "connect_timeout"),
    *("max_retries", "headers", "query", "organization", "project", "azure", "simulated", "models"),
    *("upstream", "aliases", "fallbacks", "context_tokens", "embeddings", "form", "api_version"),
    *("deployments", "v1", "phase", "errors", "KEY", "m", "n", "a", "https://[::1", "http://a:0"),
    *("http://a:99999", "seed", "http://a?b", "/dev/zero", "."),
)


def _check_models(data: bytes) -> None:
    path = _FILE.holding(_toml_input(data, _MODELS, _MODEL_WORDS))
    _problems(lambda: ModelsFile.read(path, {"KEY": "k"}, taken=frozenset({"t"})))


_DIGEST: Final = "0" * 64
_KEYS: Final = (
    json.dumps({"keys": [{"name": "k", "sha256": _DIGEST}]}),
    json.dumps(
        {
            "keys": [
                {
                    "name": "k",
                    "sha256": _DIGEST,
                    "scopes": ["models"],
                    "team": "t",
                    "limits": {"usd_per_day": 1.5, "tokens_per_day": 9},
                    "user_limits": {"usd_per_day": 0.1},
                },
                {"name": "l", "sha256": "1" * 64},
            ]
        }
    ),
)
_KEY_WORDS: Final = (
    *("keys", "name", "sha256", "scopes", "inference", "models", "team", "limits", "user_limits"),
    *("usd_per_day", "tokens_per_day", _DIGEST, "k"),
)


def _check_keys(data: bytes) -> None:
    path = _FILE.holding(_toml_input(data, _KEYS, _KEY_WORDS))

    def read() -> None:
        file = KeysFile.read(path)
        ensure(file.has_limits in (True, False), "limits can be read")
        for key in file.keys:
            ensure(len(key.digest) == 32, "a digest has 32 bytes")

    _problems(read)


_PRICE: Final = {
    "prompt": 1.5,
    "completion": 2,
    "cache_read": 0.1,
    "tiers": [{"above": 9, "prompt": 3}],
}
_PRICES: Final = (
    json.dumps({"m": {"prompt": 0.15, "completion": 0.6}, "p": {"m": _PRICE}}),
    json.dumps(
        {
            "version": "v",
            "date": "2026-01-01",
            "providers": {
                "openai": {"models": {"m": _PRICE}, "names": {"n": "m"}, "fallback": ["x"]},
                "p": {
                    "models": {
                        "m": [
                            _PRICE,
                            {**_PRICE, "from": "2026-01-01"},
                            {**_PRICE, "between": ["01:00", "02:00"], "weekdays": True},
                        ]
                    }
                },
            },
        }
    ),
)
_PRICE_WORDS: Final = (
    *(
        "prompt",
        "completion",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "audio_input",
        "tiers",
    ),
    *(
        "image_input",
        "reasoning",
        "audio_output",
        "above",
        "version",
        "date",
        "providers",
        "models",
    ),
    *("names", "fallback", "from", "between", "weekdays", "openai", "p", "m", "n", "01:00"),
    *("2026-01-01", "25:00"),
)
_USAGE: Final = Usage(10, 5, cache_read_tokens=3, reasoning_tokens=1)


def _check_prices(data: bytes) -> None:
    path = _FILE.holding(json_input(data, _PRICES, _PRICE_WORDS))
    try:
        table = PriceTable.load(path)
    except PriceTableError as error:
        str(error).encode("utf-8", "backslashreplace")
        return
    ensure(isinstance(table.version, str), "a table has a version")
    for model, provider in (("m", "p"), ("n", "openai"), ("p/m", None), ("m-2026-01-01", None)):
        cost = table.cost_of(_USAGE, model, provider)
        ensure(cost is None or 0 <= cost < math.inf, "a cost is a finite number")
        table.without_simulated().price(model, provider)


_VARIABLES: Final = (
    *(str(field.validation_alias) for field in Settings.model_fields.values()),
    *(*RESTRICTIONS, *SDK_VARIABLES, *OTLP_VARIABLES),
)
# Directories are made where there are none.
_WITHOUT: Final = ("DIR",)
_NAMES: Final = tuple(name for name in _VARIABLES if not name.endswith(_WITHOUT))
_SETTING_WORDS: Final = (
    *("true", "false", "*", "https://a.example", "http://[::1", "http://a:99999", ",,", "/", "1e5"),
    *("0", "-1", "99999999999999999999", "a=b,c=d", "a=%zz", "grpc", "http/protobuf", "gzip"),
    *(
        "parentbased_traceidratio",
        "nan",
        "inf",
        "127.0.0.1",
        "10.0.0.0/8",
        "localhost",
        "10/minute",
        "~nobody-there/x",
        "9" * 300,
    ),
)


def _check_settings(data: bytes) -> None:
    source = Source(data)
    environ = {}
    for _ in range(1 + source.below(3)):
        name = _NAMES[(source.byte() * 256 + source.byte()) % len(_NAMES)]
        text = source.text(_SETTING_WORDS).replace("\0", "")
        environ[name] = text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        ensure(error.problems, "an invalid environment has a problem")
        for problem in error.problems:
            # Its own, or the one that another makes necessary: "KEYS_FILE is required: …".
            name = problem.partition("=")[0].partition(" ")[0]
            ensure(name in environ or name in _NAMES, "a problem names its variable")
            ensure(len(problem) < _LONGEST_PROBLEM, "a problem is short")
        return
    settings.limits()
    settings.telemetry()


TARGETS: Final = (
    Target(
        "models_file",
        _check_models,
        (b"\0", b"\1", b'\xff[[providers]]\nname = "p"\n'),
        _MODEL_WORDS,
    ),
    Target("keys_file", _check_keys, (b"\0", b"\1", b'\xff[[keys]]\nname = "k"\n'), _KEY_WORDS),
    Target("prices_file", _check_prices, (b"\0", b"\1", b"\xff{}"), _PRICE_WORDS),
    Target(
        "settings", _check_settings, (b"\0\0\1\1\1", b"\2\1\1\1\1\2\2\1\2"), _SETTING_WORDS, 120
    ),
)
