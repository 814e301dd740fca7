"""MODELS_FILE: providers, their models, aliases and fallbacks."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from app.config_file import SECRET, ConfigFileError, Name, Section, load
from app.problems import shown

_WEEK: Final = 604_800
_MAX_KEY_BYTES: Final = 16_384
_Seconds = Annotated[float, Field(ge=0, le=_WEEK, description=f"seconds from 0 to {_WEEK}")]
_Timeout = Annotated[float, Field(gt=0, le=_WEEK, description=f"seconds above 0, up to {_WEEK}")]
_Share = Annotated[float, Field(ge=0, le=1, description="a number from 0 (never) to 1 (always)")]
_HEADER_NAME: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
)


class Model(Section):
    """A model of a provider."""

    name: Name
    upstream: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="the model's name (Azure: the deployment's) at the provider; unset: `name`",
    )
    aliases: list[Name] = Field([], description="a list of further names for clients")
    fallbacks: list[Name] = Field(
        [], description="a list of names or aliases of models, tried in this order"
    )
    context_tokens: int | None = Field(
        None, ge=1, le=10**9, description="a whole number of tokens, 1 or more"
    )
    embeddings: bool | None = Field(
        None, description='true or false; unset: whether the name contains "embed"'
    )

    @property
    def upstream_name(self) -> str:
        """The model's name at the provider."""
        return self.upstream or self.name


class Azure(Section):
    """Azure OpenAI's form of URLs."""

    form: Literal["deployments", "v1"] = Field(
        "deployments",
        description='"deployments" (/openai/deployments/NAME/…) or "v1" (/openai/v1/…)',
    )
    api_version: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,40}$",
        description='a version such as "2024-10-21", required with form "deployments"',
    )

    @model_validator(mode="after")
    def _has_version(self) -> Self:
        if self.form == "deployments" and self.api_version is None:
            raise ValueError('form "deployments" requires api_version')
        return self


class Phase(Section):
    """A part of each period in which simulated models behave differently."""

    every_seconds: _Timeout
    after_seconds: _Seconds = 0.0
    for_seconds: _Timeout
    error_rate: float | None = Field(None, ge=0, le=1, description="a number from 0 to 1")
    first_token_seconds: float | None = Field(
        None, ge=0, le=_WEEK, description=f"seconds from 0 to {_WEEK}"
    )
    tokens_per_second: float | None = Field(
        None, ge=0, description="a number, 0 (no delay) or more"
    )


class Simulated(Section):
    """Behaviour of simulated models; the defaults are those of the SIMULATED_* settings."""

    tokens_per_second: float = Field(80.0, ge=0, description="a number, 0 (no delay) or more")
    first_token_seconds: _Seconds = 0.2
    answer_tokens: int = Field(60, ge=1, description="a whole number, 1 or more")
    error_rate: _Share = 0.0
    stall_rate: _Share = 0.0
    stall_seconds: _Seconds = 5.0
    seed: int = Field(1, description="a whole number")
    errors: list[
        Literal["simulated_error", "rate_limit_exceeded", "server_error", "unavailable", "timeout"]
    ] = Field(
        ["simulated_error"],
        min_length=1,
        description="a list of simulated_error, rate_limit_exceeded, server_error, unavailable "
        "and timeout",
    )
    prompt_cache: bool = Field(False, description="true or false")
    requests_per_minute: int | None = Field(
        None, ge=1, le=1_000_000, description="a whole number from 1 to 1000000"
    )
    phase: Phase | None = Field(None, description="a table: every_seconds, for_seconds, …")


class Provider(Section):
    """A provider: an OpenAI-compatible endpoint, or simulated models."""

    name: Name  # gen_ai.provider.name
    base_url: str | None = Field(None, description="an http or https URL")
    api_key_env: str | None = Field(
        None,
        pattern=r"^[A-Z_][A-Z0-9_]{0,63}$",
        description="the name of an environment variable, in upper case, that has the key; never "
        "the key itself",
        json_schema_extra=SECRET,
    )
    api_key_file: str | None = Field(
        None,
        min_length=1,
        description="a file that has the key, relative to this one; never the key itself",
    )
    timeout: _Timeout = 60.0
    connect_timeout: _Timeout = 5.0
    max_retries: int = Field(2, ge=0, le=10, description="a whole number from 0 to 10")
    headers: dict[str, SecretStr] = Field({}, description="a table of headers, each a text")
    query: dict[str, SecretStr] = Field({}, description="a table of query parameters, each a text")
    organization: str | None = Field(None, pattern=r"^[!-~]{1,128}$", description="an ID of OpenAI")
    project: str | None = Field(None, pattern=r"^[!-~]{1,128}$", description="an ID of OpenAI")
    azure: Azure | None = Field(None, description="a table: form and api_version")
    simulated: Simulated | None = Field(None, description="a table of the simulation's behaviour")
    models: list[Model] = Field(min_length=1, description="a list of at least one model")
    _key: SecretStr | None = PrivateAttr(None)

    @field_validator("base_url")
    @classmethod
    def _web_url(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "http://unset")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("not a web address")
        if parts.query or parts.fragment:
            raise ValueError("query parameters belong in `query`")
        return url

    @field_validator("headers")
    @classmethod
    def _valid_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not name or not set(name) <= _HEADER_NAME or not _fits_a_header(value, blanks=True):
                raise ValueError(f"header {name!r} has an invalid name or value")
        return headers

    @model_validator(mode="after")
    def _either_endpoint_or_simulated(self) -> Self:
        only_endpoint = (
            *("base_url", "api_key_env", "api_key_file", "headers", "query"),
            *("organization", "project", "azure"),
        )
        if self.simulated is not None:
            if given := [name for name in only_endpoint if name in self.model_fields_set]:
                raise ValueError(f"a simulated provider has no {given[0]}")
        elif self.base_url is None:
            raise ValueError("base_url or simulated is required")
        if self.api_key_env and self.api_key_file:
            raise ValueError("api_key_env and api_key_file exclude each other")
        return self

    @property
    def api_key(self) -> SecretStr | None:
        """The key that `api_key_env` or `api_key_file` refers to."""
        return self._key

    def read_key(self, environ: Mapping[str, str], directory: Path) -> None:
        """Read the key. Raise ValueError."""
        if self.api_key_env:
            source, key = f"variable {self.api_key_env}", environ.get(self.api_key_env, "")
        elif self.api_key_file:
            source, key = "file", _read(directory / os.path.expanduser(self.api_key_file))
        else:
            return
        secret = SecretStr(key.strip())
        if not secret.get_secret_value():
            raise ValueError(f"the {source} is unset or empty")
        if not _fits_a_header(secret):
            raise ValueError(f"the {source} has a key with blanks or characters outside of ASCII")
        self._key = secret


class ModelsFile(Section):
    """The whole file."""

    providers: list[Provider] = Field(
        min_length=1, description="a list of at least one provider: [[providers]]"
    )

    @classmethod
    def read(
        cls,
        path: Path,
        environ: Mapping[str, str],
        *,
        taken: frozenset[str] = frozenset(),
        others: frozenset[str] = frozenset(),
    ) -> Self:
        """Return the file's content, with the providers' keys. Raise ConfigFileError.

        `taken` are names of models that the file must not have; fallbacks may name these and
        `others`.
        """
        found = load(path, cls)
        problems = [*found._keys(environ, path.parent), *_name_problems(found, taken, others)]
        if problems:
            raise ConfigFileError(problems)
        return found

    @property
    def names(self) -> list[str]:
        """Names of all models, without aliases, in the order of the file."""
        return [model.name for provider in self.providers for model in provider.models]

    @property
    def aliases(self) -> dict[str, str]:
        """The model's name of each alias."""
        return {
            alias: model.name
            for provider in self.providers
            for model in provider.models
            for alias in model.aliases
        }

    def _keys(self, environ: Mapping[str, str], directory: Path) -> Iterator[str]:
        for position, provider in enumerate(self.providers):
            try:
                provider.read_key(environ, directory)
            except ValueError as error:
                field = "api_key_env" if provider.api_key_env else "api_key_file"
                value = provider.api_key_env or provider.api_key_file or ""
                yield (
                    f"providers[{position}] ({provider.name}): {field} = {shown(repr(value))} is "
                    f"not accepted ({error}): give {Provider.model_fields[field].description}"
                )


def _name_problems(
    file: ModelsFile, taken: frozenset[str], others: frozenset[str]
) -> Iterator[str]:
    providers = [provider.name for provider in file.providers]
    yield from (
        f"provider {name!r} exists twice: give each provider a name of its own"
        for name in _repeated(providers)
    )
    models = {model.name: model for model in _all_models(file)}
    given = [name for model in _all_models(file) for name in (model.name, *model.aliases)]
    for name in _repeated(given):
        yield f"model or alias {name!r} exists twice: give each model and alias a name of its own"
    for name in sorted(taken.intersection(given)):
        yield (
            f"model or alias {name!r} is in OPENAI_MODELS too: give each model and alias a name "
            "of its own"
        )
    canonical = {**{name: name for name in (*others, *taken, *models)}, **file.aliases}
    for model in _all_models(file):
        for fallback in model.fallbacks:
            if fallback not in canonical:
                yield (
                    f"model {model.name!r}: fallback {fallback!r} does not exist: give names or "
                    f"aliases of {', '.join(sorted(canonical))}"
                )
        repeated = _repeated([canonical.get(name, name) for name in model.fallbacks])
        yield from (f"model {model.name!r}: fallback {name!r} is listed twice" for name in repeated)
    yield from _loops(
        {
            name: [canonical[fallback] for fallback in model.fallbacks if fallback in canonical]
            for name, model in models.items()
        }
    )


def _all_models(file: ModelsFile) -> list[Model]:
    return [model for provider in file.providers for model in provider.models]


def _repeated(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _loops(fallbacks: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield each model that is a fallback of itself, directly or through others."""
    for start in fallbacks:
        reached: dict[str, str] = {}  # each model, and the one whose fallback it is
        waiting = [start]
        while waiting:
            name = waiting.pop()
            for fallback in fallbacks.get(name, []):
                if fallback not in reached:
                    reached[fallback] = name
                    waiting.append(fallback)
        if start in reached:
            path = [start]
            while (before := reached[path[-1]]) != start:
                path.append(before)
            way = " -> ".join([start, *reversed(path)])
            yield f"model {start!r} is a fallback of itself ({way}): give fallbacks without a loop"


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{shown(str(path))} is not a file")
        with path.open("rb") as file:
            return file.read(_MAX_KEY_BYTES).decode()
    except OSError as error:
        raise ValueError(f"cannot read {shown(str(path))}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{shown(str(path))} is not UTF-8") from None


def _fits_a_header(value: SecretStr, *, blanks: bool = False) -> bool:
    text = value.get_secret_value()
    return text.isascii() and text.isprintable() and (blanks or " " not in text)
