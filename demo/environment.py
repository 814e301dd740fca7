"""Settings of a load: the environment, read once; each invalid value is reported in a line."""

import os
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails


class LoadSettingsError(ValueError):
    """Invalid settings in the environment; `problems` has a line for each variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def setting(
    default: Any,
    variable: str,
    sentence: str,
    accepts: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    le: float | None = None,
) -> Any:
    """Return a field that is read from `variable`, with its meaning and the accepted values."""
    return Field(
        default,
        validation_alias=variable,
        description=sentence,
        json_schema_extra={"accepts": accepts},
        gt=gt,
        ge=ge,
        le=le,
    )


class LoadSettings(BaseModel):
    """Base class of load settings; each field is a `setting`."""

    model_config = ConfigDict(
        frozen=True, validate_by_name=True, extra="forbid", allow_inf_nan=False
    )

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read settings of a mapping or this process; empty is unset. Raises LoadSettingsError."""
        environ = os.environ if environ is None else environ
        variables = [str(field.validation_alias) for field in cls.model_fields.values()]
        given = {name: value for name in variables if (value := environ.get(name, "").strip())}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = [cls._explain(given, problem) for problem in error.errors()]
            raise LoadSettingsError(problems) from None

    @classmethod
    def _explain(cls, given: Mapping[str, str], problem: ErrorDetails) -> str:
        """Return one line: the variable, its value, and the accepted values."""
        variable = str(problem["loc"][0])
        fields = cls.model_fields.values()
        extra = next(f for f in fields if f.validation_alias == variable).json_schema_extra
        accepts = extra["accepts"] if isinstance(extra, dict) else ""
        return f"{variable}={given[variable]} is not accepted: give {accepts}"
