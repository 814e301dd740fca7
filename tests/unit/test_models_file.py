"""MODELS_FILE: what it accepts, and how its problems are reported."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.config_file import ConfigFileError, explain
from app.models_file import Azure, Model, ModelsFile, Provider, Simulated
from app.settings import SettingsError, load_settings

_PROVIDER = '[[providers]]\nname = "a"\nbase_url = "http://a/v1"\n'


def _read(directory: Path, text: str, **environ: str) -> ModelsFile:
    path = directory / "models.toml"
    path.write_text(text)
    return ModelsFile.read(
        path, environ, taken=frozenset({"taken-1"}), others=frozenset({"simulated-1"})
    )


def _problems(directory: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigFileError) as caught:
        _read(directory, text, **environ)
    return caught.value.problems


def _models(*models: str) -> str:
    return f"{_PROVIDER}models = [{', '.join(models)}]\n"


def test_defaults_are_those_of_the_settings(tmp_path: Path) -> None:
    (provider,) = _read(tmp_path, _models('{ name = "m" }')).providers
    settings = load_settings({})
    assert provider.timeout == settings.openai_timeout_seconds
    assert provider.connect_timeout == settings.openai_connect_timeout_seconds
    assert provider.max_retries == settings.openai_max_retries
    simulated = _read(
        tmp_path, '[[providers]]\nname = "s"\nsimulated = {}\nmodels = [{ name = "m" }]'
    )
    behaviour = simulated.providers[0].simulated
    assert behaviour is not None
    only_here = {"errors", "prompt_cache", "requests_per_minute", "phase"}
    for name, value in behaviour.model_dump(exclude=only_here).items():
        assert value == getattr(settings, f"simulated_{name}"), name


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("timeout = 0", "timeout = 0 is not accepted: give seconds above 0, up to 604800"),
        ('timeout = "1"', "timeout = '1' is not accepted: give seconds above 0, up to 604800"),
        ("timeout = nan", "timeout = nan is not accepted: give seconds above 0, up to 604800"),
        ("max_retries = 11", "max_retries = 11 is not accepted: give a whole number from 0 to 10"),
        ("max_retries = true", "max_retries = True is not accepted: give a whole number from 0 to"),
        (
            'api_key_env = "sk-planted"',
            "api_key_env = *** is not accepted: give the name of an env",
        ),
        ('api_key_env = "UNSET"', "(the variable UNSET is unset or empty): give the name of"),
        ('api_key_env = "EMPTY"', "(the variable EMPTY is unset or empty): give the name of"),
        ('api_key_env = "BLANK"', "(the variable BLANK has a key with blanks or characters out"),
        ('api_key_file = "no.key"', "no.key: No such file or directory): give a file that has"),
        ('api_key_file = "."', "is not a file): give a file that has the key"),
        ('headers = { "a b" = "planted" }', "headers is not accepted (header 'a b' has an inva"),
        ('headers = { "a" = "planted\\n" }', "headers is not accepted (header 'a' has an inval"),
        ('api_key = "sk-planted"', "api_key is unknown; known: name, base_url, api_key_env,"),
        ('azure = { form = "v2" }', "azure.form = 'v2' is not accepted: give \"deployments\""),
        ("azure = {}", 'azure is not accepted (form "deployments" requires api_version)'),
        ("simulated = {}", "is not accepted (a simulated provider has no base_url)"),
        ('api_key_env = "A"\napi_key_file = "b"', "(api_key_env and api_key_file exclude each"),
    ],
)
def test_invalid_field_is_reported_with_what_is_accepted(
    tmp_path: Path, entry: str, problem: str
) -> None:
    text = f'{_PROVIDER}{entry}\nmodels = [{{ name = "m" }}]'
    (found,) = _problems(tmp_path, text, EMPTY=" ", BLANK="a b", A="a")
    assert found.startswith("providers[0] (a)")
    assert problem in found
    assert "planted" not in found


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://a", "not a web address"),
        ("a/v1", "not a web address"),
        ("http://user:planted@a/v1?key=1", "query parameters belong in `query`"),
    ],
)
def test_base_url_is_a_web_address(tmp_path: Path, url: str, reason: str) -> None:
    text = f'[[providers]]\nname = "a"\nbase_url = "{url}"\nmodels = [{{ name = "m" }}]'
    (found,) = _problems(tmp_path, text)
    assert f"({reason}): give an http or https URL" in found
    assert "planted" not in found


def test_provider_has_an_address_or_is_simulated(tmp_path: Path) -> None:
    (found,) = _problems(tmp_path, '[[providers]]\nname = "a"\nmodels = [{ name = "m" }]')
    assert found == "providers[0] (a) is not accepted (base_url or simulated is required)"


@pytest.mark.parametrize(
    ("models", "problems"),
    [
        (['{ name = "m" }', '{ name = "m" }'], ["model or alias 'm' exists twice"]),
        (['{ name = "m", aliases = ["m"] }'], ["model or alias 'm' exists twice"]),
        (['{ name = "m", aliases = ["n"] }', '{ name = "n" }'], ["alias 'n' exists twice"]),
        (['{ name = "taken-1" }'], ["'taken-1' is in OPENAI_MODELS too"]),
        (['{ name = "m", fallbacks = ["x"] }'], ["fallback 'x' does not exist: give names or al"]),
        (['{ name = "m", fallbacks = ["m"] }'], ["'m' is a fallback of itself (m -> m)"]),
        (
            [
                '{ name = "m", aliases = ["a"], fallbacks = ["n"] }',
                '{ name = "n", fallbacks = ["a"] }',
            ],
            ["'m' is a fallback of itself (m -> n -> m)", "'n' is a fallback of itself (n -> m ->"],
        ),
        (
            ['{ name = "m", fallbacks = ["n", "a"] }', '{ name = "n", aliases = ["a"] }'],
            ["model 'm': fallback 'n' is listed twice"],
        ),
    ],
)
def test_names_that_do_not_fit_together_are_reported(
    tmp_path: Path, models: list[str], problems: list[str]
) -> None:
    found = _problems(tmp_path, _models(*models))
    assert len(found) == len(problems)
    for text, problem in zip(found, problems, strict=True):
        assert problem in text


def test_fallbacks_may_be_aliases_and_models_of_other_settings(tmp_path: Path) -> None:
    _read(
        tmp_path,
        _models(
            '{ name = "m", fallbacks = ["alias", "simulated-1", "taken-1"] }',
            '{ name = "n", aliases = ["alias"] }',
        ),
    )


def test_two_providers_of_one_name_are_reported(tmp_path: Path) -> None:
    text = _models('{ name = "m" }') + _models('{ name = "n" }')
    (found,) = _problems(tmp_path, text)
    assert found.startswith("provider 'a' exists twice")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "providers is missing: give a list of at least one provider"),
        (b"[[providers]", "is not TOML: "),
        (b"a = \xff", "is not TOML: it is not UTF-8"),
        (b"x = " + b"[" * 5000, "is not TOML: "),
        (b"#" * (4 * 1024 * 1024 + 1), "is larger than 4194304 bytes"),
        (b"providers = 3", "providers = 3 is not accepted: give a list of at least one provider"),
        (b"providers = [3]", "providers[0] = 3 is not accepted: give a list of at least one pro"),
    ],
)
def test_file_that_is_none_is_reported(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "models.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings({"MODELS_FILE": str(path)})
    (found,) = caught.value.problems
    assert found.startswith(f"MODELS_FILE={path}: ")
    assert problem in found


def test_file_that_cannot_be_read_hides_no_other_problem(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"MODELS_FILE": str(tmp_path), "DEFAULT_MODEL": "m", "PORT": "x"})
    assert {problem.partition("=")[0] for problem in caught.value.problems} == {
        *("MODELS_FILE", "PORT")
    }


def test_problem_with_a_key_file_is_one_line(tmp_path: Path) -> None:
    key_file = 'base_url = "http://a"\napi_key_file = "a\\r\\nb"\n'
    text = f'[[providers]]\nname = "p"\n{key_file}models = [{{ name = "m" }}]\n'
    [problem] = _problems(tmp_path, text)
    assert problem.isprintable()


def test_default_model_is_the_first_of_the_file_or_the_named_one(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(_models('{ name = "m", aliases = ["a"] }', '{ name = "n" }'))
    environ = {"MODELS_FILE": str(path)}
    assert load_settings(environ).model == "m"
    assert load_settings({**environ, "DEFAULT_MODEL": "a"}).model == "a"
    configured = {**environ, "OPENAI_MODELS": "o", "OPENAI_API_KEY": "k"}
    assert load_settings(configured).model == "o"
    with pytest.raises(SettingsError, match="available models: m, n, a, simulated-1"):
        load_settings({**environ, "DEFAULT_MODEL": "x"})
    assert load_settings(environ).telemetry().known_models == {"m", "n", "simulated-1"}


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.sampled_from(["http://a", "a", "v1", "deployments", "A_KEY"]),
)
_NAMES = st.sampled_from(
    sorted(
        {name for section in (Provider, Model, Azure, Simulated) for name in section.model_fields}
    )
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(_NAMES, st.text()), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(_NAMES, _VALUES, max_size=6), max_size=3))
def test_any_content_is_accepted_or_reported_in_lines(providers: list[dict[str, Any]]) -> None:
    data = {"providers": providers}
    try:
        ModelsFile.model_validate(data)
    except ValidationError as error:
        for problem in error.errors():
            line = explain(ModelsFile, data, problem)
            assert line.startswith("providers")
            assert line.isprintable()


def test_proxy_that_its_clients_do_not_support_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    environ = {"MODELS_FILE": str(path), "ALL_PROXY": "socks5://127.0.0.1:1"}
    path.write_text(_models('{ name = "m" }'))
    with pytest.raises(SettingsError, match="ALL_PROXY=socks5"):
        load_settings(environ)
    path.write_text(path.read_text().replace("http://a", "http://127.0.0.1:1"))
    load_settings(environ)
