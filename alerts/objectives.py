"""Reads objectives.yaml, the only file of the alerts that users edit."""

from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from chatscope.names import ANSWER_STALL, LLM_RESPONSE_TIME, SERVER_TIME_TO_FIRST_TOKEN, Metric

FILE: Final = Path(__file__).with_name("objectives.yaml")


class ObjectivesError(ValueError):
    """Invalid objectives; the text has a line for each key."""

    def __init__(self, file: Path, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{file.name}: {problem}" for problem in problems))


def _bound(histogram: Metric) -> AfterValidator:
    """Return a validator that accepts bucket bounds only: a histogram has no counts in between."""
    bounds = histogram.buckets or ()

    def known(seconds: float) -> float:
        if seconds not in bounds:
            accepted = ", ".join(f"{bound:g}" for bound in bounds)
            raise ValueError(f"it must be a bucket's bound of {histogram.name}: {accepted}")
        return seconds

    return AfterValidator(known)


Percent = Annotated[float, Field(gt=0, lt=100)]
Share = Annotated[float, Field(gt=0, lt=1)]
AboveZero = Annotated[float, Field(gt=0)]
Seconds = AboveZero


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Availability(_Section):
    target: Percent


class Latency(_Section):
    target: Percent
    seconds: Annotated[float, _bound(LLM_RESPONSE_TIME)]


class FirstToken(_Section):
    target: Percent
    seconds: Annotated[float, _bound(SERVER_TIME_TO_FIRST_TOKEN)]


class Objectives(_Section):
    period: Literal["7d", "14d"]
    availability: Availability
    latency: Latency
    first_token: FirstToken


class Cost(_Section):
    daily_usd: AboveZero
    hourly_usd: AboveZero


class Thresholds(_Section):
    error_share: Share
    least_answers: Annotated[int, Field(ge=1)]
    answer_seconds: Seconds
    first_token_seconds: Seconds
    stall_seconds: Annotated[float, _bound(ANSWER_STALL)]
    stall_share: Share
    empty_share: Share
    token_factor: Annotated[float, Field(gt=1)]
    tokens_per_minute: AboveZero
    event_loop_lag_seconds: Seconds
    memory_mib: AboveZero
    socket_share: Share
    error_lines: Annotated[int, Field(ge=1)]
    queue_share: Share
    service_series: Annotated[int, Field(ge=1)]
    label_values: Annotated[int, Field(ge=1)]
    disk_share: Share
    disk_trend_share: Share
    key_budget_share: Share


class Wanted(_Section):
    """The content of objectives.yaml."""

    # Inserted into queries without quoting.
    service: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    objectives: Objectives
    cost: Cost
    thresholds: Thresholds


def read(file: Path = FILE) -> Wanted:
    """Read and validate a file. Raises ObjectivesError."""
    try:
        return Wanted.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ObjectivesError(file, [f"not YAML: {error}"]) from error
    except ValidationError as error:
        raise ObjectivesError(file, [_in_words(each) for each in error.errors()]) from error


def _in_words(error: ErrorDetails) -> str:
    key = ".".join(map(str, error["loc"])) or "the file"
    message = error["msg"].removeprefix("Value error, ")
    match error["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden":
            return f"{key} is not known here"
    return f"{key}: {error['input']!r} is not accepted: {message[0].lower()}{message[1:]}"
