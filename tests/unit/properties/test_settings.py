"""An environment made of anything: read, or refused by a SettingsError that names each variable."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from app.otel_environment import RESTRICTIONS
from app.settings import Settings, SettingsError, load_settings
from chatscope.otlp.variables import VARIABLES as OTLP_VARIABLES
from chatscope.sdk_variables import VARIABLES as SDK_VARIABLES

_VARIABLES = [str(field.validation_alias) for field in Settings.model_fields.values()]
_numbers = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.integers(300, 5000).map(lambda digits: "9" * digits),
)
_values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
    _numbers,
    st.sampled_from(["true", "*", "https://a.example", "http://[::1", "http://a:99999", ",,", "/"]),
)
_environments = st.dictionaries(
    st.sampled_from([*_VARIABLES, *RESTRICTIONS, *SDK_VARIABLES, *OTLP_VARIABLES]), _values
)


def _problems(environ: dict[str, str]) -> list[str]:
    """What a SettingsError says; nothing when there is none."""
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        return error.problems or ["an error without a problem"]
    settings.telemetry()
    settings.limits()
    return []


@given(environ=_environments)
def test_any_environment_is_read_or_refused_by_name(environ: dict[str, str]) -> None:
    named = {problem.partition("=")[0] for problem in _problems(environ)}
    assert named <= environ.keys()


@given(number=st.integers(1, 10**6))
def test_a_good_value_is_kept(number: int) -> None:
    environ = {"MAX_ANSWERS": str(number), "MAX_REQUEST_CHARS": f" {number} "}
    settings = load_settings(environ)
    assert (settings.max_answers, settings.max_request_chars) == (number, number)


@given(secret=st.text("abc \0\u00fcx", min_size=1, max_size=30).map(lambda text: f"sk-{text}-ks"))
def test_a_secret_is_never_repeated(secret: str) -> None:
    problems = _problems({"OPENAI_API_KEY": secret, "PORT": "x"})
    assert "sk-" not in str(problems)


def test_nothing_but_the_settings_is_read(tmp_path: Path) -> None:
    unknown: dict[str, Any] = {"HOME": str(tmp_path), "MAX_ANSWERSS": "0"}
    assert load_settings(unknown) == load_settings({})
