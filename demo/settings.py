"""The demo's settings: the environment, read once; every bound has a value."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails


class DemoSettingsError(ValueError):
    """What is wrong with the environment; `problems` has a line for each variable."""

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


def _web_address(url: str) -> str:
    parts = urlsplit(url)
    bare = not (parts.path.strip("/") or parts.query or parts.fragment)
    # `port` raises a ValueError of its own for what is no port.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or not bare:
        raise ValueError("not the address of a service")
    return url.rstrip("/")


class DemoSettings(BaseModel):
    """Whom the people ask, how many they are, and when it ends."""

    model_config = ConfigDict(
        frozen=True, validate_by_name=True, extra="forbid", allow_inf_nan=False
    )

    url: Annotated[str, AfterValidator(_web_address)] = _setting(
        "http://127.0.0.1:3000", "CHATSCOPE_URL", "The service that is asked.",
        "http or https, a host and a port, such as http://127.0.0.1:3000",
    )  # fmt: skip
    # One of each kind of people (demo/people.py).
    users: int = _setting(
        7, "DEMO_USERS",
        "People who chat at the same time; with fewer than 7 some kinds are missing.",
        "a whole number from 1 to 100", ge=1, le=100,
    )  # fmt: skip
    spawn_rate: float = _setting(
        1.0, "DEMO_SPAWN_RATE", "How many of them come in a second, until all are there.",
        "a number above 0, up to 100", gt=0, le=100,
    )  # fmt: skip
    pace: float = _setting(
        1.0, "DEMO_PACE", "How many times shorter their pauses are than those of people.",
        "a number above 0, up to 100", gt=0, le=100,
    )  # fmt: skip
    seconds: float = _setting(
        600.0, "DEMO_SECONDS", "Ends after this time.",
        "a number of seconds above 0, up to 86400", gt=0, le=86_400,
    )  # fmt: skip
    questions: int = _setting(
        1000, "DEMO_QUESTIONS", "Ends after this many questions.",
        "a whole number from 1 to 1000000", ge=1, le=1_000_000,
    )  # fmt: skip
    models: Annotated[tuple[str, ...], BeforeValidator(_split)] = _setting(
        (), "DEMO_MODELS", "Models that are asked; unset: the simulated ones, which cost nothing.",
        "a comma list of names from /v1/models",
    )  # fmt: skip

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Settings of this process or of a mapping; empty is unset. Raises DemoSettingsError."""
        environ = os.environ if environ is None else environ
        variables = [str(field.validation_alias) for field in cls.model_fields.values()]
        given = {name: value for name in variables if (value := environ.get(name, "").strip())}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = [_explain(given, problem) for problem in error.errors()]
            raise DemoSettingsError(problems) from None


def _explain(given: Mapping[str, str], problem: ErrorDetails) -> str:
    """One line: the variable, the value given, and what is accepted."""
    variable = str(problem["loc"][0])
    fields = DemoSettings.model_fields.values()
    extra = next(f for f in fields if f.validation_alias == variable).json_schema_extra
    accepts = extra["accepts"] if isinstance(extra, dict) else ""
    return f"{variable}={given[variable]} is not accepted: give {accepts}"
