"""TOML files that an operator writes, validated by pydantic; all problems are reported together.

TOML, because the standard library reads it, it has comments, and an entry can be appended to a
list of tables with `>>`.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from app.problems import shown

_MAX_BYTES: Final = 4 * 1024 * 1024
_TABLE: Final = "{…}"
# Of a field whose invalid values are not shown: an operator may have put a secret there.
SECRET: Final[dict[str, JsonValue]] = {"secret": True}

_Section = TypeVar("_Section", bound="Section")


class ConfigFileError(ValueError):
    """A file is invalid; `problems` has one line for each problem, without the file's path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Section(BaseModel):
    """A table of a file. Each field says what it accepts in its `description`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


NAME_ACCEPTS: Final = "a name of 1 to 128 letters, digits and . _ : / @ + -"
Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$", description=NAME_ACCEPTS),
]


def load(path: Path, section: type[_Section]) -> _Section:
    """Return the file's content. Raise ConfigFileError."""
    data = _parse(path)
    try:
        return section.model_validate(data)
    except ValidationError as error:
        problems = [explain(section, data, problem) for problem in error.errors(include_url=False)]
        raise ConfigFileError(problems) from None


def _parse(path: Path) -> dict[str, Any]:
    try:
        # Reading a pipe or a device may never end.
        if os.path.exists(path) and not os.path.isfile(path):
            raise ConfigFileError(["is not a file"])
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigFileError([f"is larger than {_MAX_BYTES} bytes"])
        return tomllib.loads(content.decode())
    except OSError as error:
        raise ConfigFileError([f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigFileError(["is not TOML: it is not UTF-8"]) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigFileError([f"is not TOML: {error}"]) from None


def explain(section: type[Section], data: Mapping[str, Any], problem: ErrorDetails) -> str:
    """Return one line: the entry, the field, its value unless that may be secret, and what is
    accepted."""
    entry, field, value = _find(data, problem["loc"])
    is_table = value == _TABLE
    if _is_secret(section, problem["loc"]):
        value = "***"
    accepts = accepted(section, problem["loc"])
    suffix = f": give {accepts}" if accepts else ""
    match problem["type"]:
        case "missing":
            return f"{entry}{field} is missing{suffix}"
        case "extra_forbidden":
            known = ", ".join(_known_fields(section, problem["loc"]))
            return f"{entry}{field} is unknown; known: {known}"
        case "value_error":
            reason = f" ({problem['ctx']['error']})"
            suffix = "" if is_table else suffix
        case _:
            reason = "" if accepts else f" ({problem['msg']})"
    shown_value = "" if is_table else f" = {value}"
    return f"{entry}{field}{shown_value} is not accepted{reason}{suffix}"


def _find(data: Any, loc: Sequence[str | int]) -> tuple[str, str, str]:
    """Return the entry with its names, the field, and its value as a message shows it."""
    words: list[str] = []
    fields: list[str] = []
    value: Any = data
    for part in loc:
        if isinstance(part, int):
            value = value[part] if isinstance(value, list) and part < len(value) else None
            words.append(_label(fields.pop() if fields else "entry", part, value))
        else:
            fields.append(shown(part))
            value = value.get(part) if isinstance(value, Mapping) else None
    if not fields:  # the problem is an element of a list: name the list
        entry = f"{', '.join(words[:-1])}: " if words[1:] else ""
        return entry, words[-1] if words else "the file", _shown(value)
    entry = f"{', '.join(words)}: " if words else ""
    return entry, ".".join(fields), _shown(value)


def _label(table: str, position: int, value: Any) -> str:
    name = value.get("name") if isinstance(value, Mapping) else None
    where = f"{table}[{position}]"
    return f"{where} ({shown(name)})" if isinstance(name, str) else where


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return _TABLE
    return shown(repr(value))


def _fields(section: type[Section], loc: Sequence[str | int]) -> Iterator[FieldInfo | None]:
    """Yield the field of each name in `loc`; None when it has none."""
    current: type[BaseModel] | None = section
    for part in loc:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if current else None
        yield field
        current = _section_of(field.annotation) if field else None


def accepted(section: type[Section], loc: Sequence[str | int]) -> str:
    """Return the description of the innermost described field of `loc`."""
    described = [field.description for field in _fields(section, loc) if field]
    return (described[-1] if described else None) or ""


def _is_secret(section: type[Section], loc: Sequence[str | int]) -> bool:
    return any(field and field.json_schema_extra == SECRET for field in _fields(section, loc))


def _known_fields(section: type[Section], loc: Sequence[str | int]) -> list[str]:
    current: type[BaseModel] | None = section
    for field in list(_fields(section, loc))[:-1]:
        current = _section_of(field.annotation) if field else None
    return list(current.model_fields) if current else []


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section in an annotation such as `tuple[Model, ...]` or `Azure | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section_of(part) for part in getattr(annotation, "__args__", ()))
    return next((section for section in found if section), None)
