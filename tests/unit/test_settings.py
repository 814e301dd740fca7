"""Settings: defaults, validation, and error messages."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from app.keys.keyring import digest_of
from app.settings import Settings, SettingsError, load_settings
from app.shared_store import SharedStore
from demo import story

_ROOT = Path(__file__).parents[2]


def _problems(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return caught.value.problems


def test_nothing_needs_to_be_set() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port) == ("127.0.0.1", 3000)
    assert settings.frontend_url == ()
    assert settings.model == "simulated-1"


def test_an_empty_variable_means_the_same_as_none() -> None:
    environ = dict.fromkeys(["PORT", "FRONTEND_URL", "OPENAI_API_KEY", "LOG_LEVEL"], " ")
    assert load_settings(environ) == load_settings({})


def test_every_setting_has_a_variable_a_sentence_and_what_it_accepts() -> None:
    for name, field in Settings.model_fields.items():
        assert isinstance(field.validation_alias, str), name
        assert field.validation_alias.isupper(), name
        assert (field.description or "").endswith("."), name
        assert isinstance(field.json_schema_extra, dict), name
        assert field.json_schema_extra["accepts"], name


def test_all_problems_are_told_at_once_with_variable_value_and_what_is_accepted() -> None:
    problems = _problems(PORT="70000", LOG_LEVEL="loud", SIMULATED_ERROR_RATE="2")
    assert problems == [
        "PORT=70000 is not accepted: give a whole number from 0 to 65535",
        "LOG_LEVEL=loud is not accepted: give TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR or "
        "CRITICAL",
        "SIMULATED_ERROR_RATE=2 is not accepted: give a number from 0 (never) to 1 (always)",
    ]


def test_a_wrong_secret_is_not_shown() -> None:
    (problem,) = _problems(OPENAI_API_KEY="sk-very secret")
    assert problem.startswith("OPENAI_API_KEY=*** is not accepted")
    assert "very" not in problem


def test_password_in_a_url_is_not_shown() -> None:
    address = "ftp://me:p@ss/word@models.example/v1"
    for name in ("OPENAI_BASE_URL", "FRONTEND_URL"):
        (problem,) = _problems(**{name: address})
        assert problem.startswith(f"{name}=ftp://me:***@models.example/v1 is not accepted")
        assert "word" not in problem


def test_a_secret_is_not_shown_by_the_settings_either() -> None:
    settings = load_settings({"OPENAI_API_KEY": "sk-hidden"})
    assert "sk-hidden" not in repr(settings)
    assert settings.openai_api_key == SecretStr("sk-hidden")


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://*.example.com",
        "example.com",
        "https://example.com/",
        "https://example.com/app",
        "https://example.com:443",
        "http://example.com:80",
        "https://user@example.com",
        "https://example.com?x",
        "https://example.com:99999",
        "ftp://example.com",
        "null",
        "https://",
    ],
)
def test_what_no_browser_sends_is_no_origin(origin: str) -> None:
    (problem,) = _problems(FRONTEND_URL=f"http://good.example,{origin}")
    assert problem.startswith(f"FRONTEND_URL=http://good.example,{origin} is not accepted")
    assert repr(origin) in problem


def test_origins_are_a_comma_list() -> None:
    given = "http://localhost:5173, HTTPS://Chat.example ,http://[::1]:8080"
    assert load_settings({"FRONTEND_URL": given}).frontend_url == (
        "http://localhost:5173",
        "https://chat.example",
        "http://[::1]:8080",
    )


def test_models_need_a_key_or_a_base_url() -> None:
    (problem,) = _problems(OPENAI_MODELS="m")
    assert "neither OPENAI_API_KEY nor OPENAI_BASE_URL is set" in problem
    for way in ({"OPENAI_API_KEY": "k"}, {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}):
        assert load_settings({"OPENAI_MODELS": "m, n", **way}).openai_models == ("m", "n")


def test_the_first_configured_model_is_the_default_unless_one_is_named() -> None:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_MODELS": "m,n"}
    assert load_settings(environ).model == "m"
    assert load_settings({**environ, "DEFAULT_MODEL": "n"}).model == "n"
    assert load_settings({**environ, "DEFAULT_MODEL": "simulated-1"}).model == "simulated-1"


def test_a_default_model_that_is_not_served_is_refused() -> None:
    (problem,) = _problems(DEFAULT_MODEL="gpt-9")
    assert "available models: simulated-1" in problem


@pytest.mark.parametrize("url", ["127.0.0.1:11434", "ftp://x/v1", "http://"])
def test_a_base_url_is_a_web_address(url: str) -> None:
    (problem,) = _problems(OPENAI_BASE_URL=url)
    assert problem.endswith("give an http or https URL")


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "fast"])
def test_a_number_is_a_finite_one(number: str) -> None:
    assert len(_problems(SIMULATED_TOKENS_PER_SECOND=number)) == 1


def test_a_price_table_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    table.write_text('{"m": {"prompt": "cheap", "completion": 1}}')
    (problem,) = _problems(PRICES_FILE=str(table))
    assert "m.prompt" in problem


def test_paths_may_begin_with_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "prices.json").write_text("{}")
    settings = load_settings({"PRICES_FILE": "~/prices.json", "TELEMETRY_SPOOL_DIR": "~/spool"})
    assert settings.prices_file == tmp_path / "prices.json"
    assert settings.telemetry_spool_dir == tmp_path / "spool"


def test_a_price_table_that_is_not_there_is_named_as_it_was_given() -> None:
    (problem,) = _problems(PRICES_FILE="~nobody-at-all/prices.json")
    assert "~nobody-at-all/prices.json" in problem


def test_prices_are_read_from_files_only(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in (
        (pipe, "is not a file"),
        (tmp_path, "is not a file"),
        ("/no", "cannot read"),
    ):
        (problem,) = _problems(PRICES_FILE=str(path))
        assert reason in problem


def test_spool_is_a_directory_that_can_be_made_and_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, reason in (
        (file, "Not a directory"),
        (file / "below", "Not a directory"),
        ("/proc/spool", "No such file or directory"),  # where nobody can make one
        ("x" * 300, "File name too long"),
    ):
        (problem,) = _problems(TELEMETRY_SPOOL_DIR=str(path))
        assert reason in problem
    load_settings({"TELEMETRY_SPOOL_DIR": str(tmp_path / "not" / "yet")})
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "3000.5"),
        ("PORT", "-1"),
        ("WORKERS", "0"),
        ("MAX_ANSWERS", "yes"),
        ("SHUTDOWN_GRACE_SECONDS", "1e300"),
        ("RECEIVE_TIMEOUT_SECONDS", "604801"),
        ("HOST", "caf\udce9"),
        ("OPENAI_MODELS", "a,\udcff"),
    ],
)
def test_invalid_value_is_named(variable: str, value: str) -> None:
    (problem,) = _problems(**{variable: value})
    shown = value if value.isascii() else ascii(value)
    assert problem.startswith(f"{variable}={shown} is not accepted: give ")


@pytest.mark.parametrize("host", ["two words", "[::1]", "localhost:3000", "a" * 64, "a..b", "/"])
def test_host_is_an_address_or_a_name(host: str) -> None:
    (problem,) = _problems(HOST=host)
    assert problem.startswith(f"HOST={host} is not accepted (neither an address")
    for good in ("::1", "fe80::1%eth0", "127.0.0.1", "bücher.example", "my-host_1.local"):
        load_settings({"HOST": good})


def test_blanks_around_a_value_do_not_count() -> None:
    settings = load_settings({"PORT": " 3000 ", "LOG_LEVEL": "debug\n", "OPENAI_MODELS": " , "})
    assert (settings.port, settings.log_level, settings.openai_models) == (3000, "DEBUG", ())


@pytest.mark.parametrize("name", ["all_proxy", "HTTPS_PROXY", "http_proxy"])
def test_proxy_that_the_client_of_models_cannot_use_is_reported(name: str) -> None:
    environ = {"OPENAI_MODELS": "m", "OPENAI_API_KEY": "k", name: "socks5://me:secret@proxy:1080"}
    (problem,) = _problems(**environ)
    shown = "socks5://me:***@proxy:1080"
    assert problem == f"{name}={shown} is not accepted: give an http or https URL"
    load_settings({**environ, name: "proxy:8080"})
    load_settings({**environ, "OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"})
    load_settings({name: environ[name]})


def test_the_operators_prices_reach_telemetry(tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    table.write_text('{"m": {"prompt": 1, "completion": 2}}')
    prices = load_settings({"PRICES_FILE": str(table)}).telemetry().prices
    assert prices is not None
    assert prices.cost("m", 1_000_000, 1_000_000) == 3.0


def test_demo_providers_are_served_beside_the_simulated_model_with_prices_of_their_own() -> None:
    settings = load_settings({"DEMO_PROVIDERS": "true"})
    assert settings.model == "simulated-1"
    assert {"northwind-large", "contoso-large", "fabrikam-embed"} <= set(settings.model_names)
    prices = settings.telemetry().prices
    assert prices is not None
    assert settings.further_models is not None
    for provider in settings.further_models.providers:
        for model in provider.models:
            cost = prices.cost(model.name, 1_000_000, 1_000_000, provider.name)
            assert cost, model.name
    chosen = load_settings({"DEMO_PROVIDERS": "true", "DEFAULT_MODEL": "contoso-small"})
    assert chosen.model == "contoso-small"
    assert load_settings({}).model_names == ["simulated-1"]


def test_demo_providers_are_never_served_beside_models_of_the_operator(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text('[[providers]]\nname = "s"\nsimulated = {}\nmodels = [{ name = "m" }]')
    for environ, names in (
        ({"OPENAI_MODELS": "gpt-4o", "OPENAI_API_KEY": "x"}, ["gpt-4o", "simulated-1"]),
        ({"MODELS_FILE": str(file)}, ["m", "simulated-1"]),
    ):
        settings = load_settings({"DEMO_PROVIDERS": "true", **environ})
        assert settings.model_names == names
        prices = settings.telemetry().prices
        assert prices is not None
        assert prices.cost("northwind-large", 1, 1, "northwind") is None
    with pytest.raises(SettingsError, match="DEFAULT_MODEL=northwind-large is not accepted"):
        load_settings(
            {"DEMO_PROVIDERS": "true", "MODELS_FILE": str(file), "DEFAULT_MODEL": "northwind-large"}
        )


def test_demo_has_the_public_keys_of_its_teams_where_the_operator_has_none(tmp_path: Path) -> None:
    demo = load_settings({"DEMO_PROVIDERS": "true"}).known_keys
    assert demo is not None
    assert {(key.team, key.sha256) for key in demo.keys} == {
        (user.team, digest_of(user.api_key).hex()) for user in story.USERS
    }
    assert load_settings({}).known_keys is None
    file = tmp_path / "keys.toml"
    file.write_text(f'[[keys]]\nname = "alice"\nsha256 = "{digest_of("a").hex()}"\n')
    own = load_settings({"DEMO_PROVIDERS": "true", "KEYS_FILE": str(file)}).known_keys
    assert own is not None
    assert [key.name for key in own.keys] == ["alice"]


def test_simulated_model_has_a_price_only_where_it_is_alone() -> None:
    alone = load_settings({}).telemetry().prices
    assert alone is not None
    assert alone.cost("simulated-1", 1, 1)
    environ = {"OPENAI_MODELS": "gpt-4o", "OPENAI_API_KEY": "x"}
    beside = load_settings(environ).telemetry().prices
    assert beside is not None
    assert beside.cost("simulated-1", 1, 1) is None
    assert beside.cost("gpt-4o", 1, 1)


@pytest.mark.parametrize(
    ("value", "captured"),
    [
        ("", False),
        ("NO_CONTENT", False),
        ("EVENT_ONLY", False),
        ("false", False),
        ("SPAN_ONLY", True),
        ("span_and_event", True),
        ("true", True),
    ],
)
def test_content_is_captured_only_where_spans_are_named(value: str, captured: bool) -> None:
    name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    assert load_settings({name: value}).telemetry().capture_content is captured


def test_telemetry_knows_all_configured_models() -> None:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_MODELS": "m,n", "OTEL_SERVICE_NAME": "mine"}
    telemetry = load_settings(environ).telemetry()
    assert telemetry.known_models == {"m", "n", "simulated-1"}
    assert telemetry.service_name == "mine"
    assert (telemetry.span_delay_ms, telemetry.log_delay_ms) == (200, 200)
    assert telemetry.metric_interval_ms == 1000


@pytest.mark.parametrize(
    ("environ", "selected"),
    [({}, "chatscope"), ({"CHATSCOPE_HTTP_INSTRUMENTATION": "Stock"}, "stock")],
)
def test_http_instrumentation_is_selectable(environ: dict[str, str], selected: str) -> None:
    assert load_settings(environ).telemetry().http_instrumentation == selected


def test_settings_cannot_be_changed() -> None:
    settings = load_settings({})
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


def test_a_misspelt_setting_in_code_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"prot": 1})


def test_api_key_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk-from-file\n")
    models = {"OPENAI_MODELS": "gpt-4o"}
    found = Settings.read({**models, "OPENAI_API_KEY_FILE": str(path)})
    assert found.openai_api_key is not None
    assert found.openai_api_key.get_secret_value() == "sk-from-file"
    for more, said in (
        ({"OPENAI_API_KEY_FILE": str(tmp_path / "none")}, "No such file"),
        ({"OPENAI_API_KEY_FILE": str(path), "OPENAI_API_KEY": "sk-2"}, "OPENAI_API_KEY is set"),
    ):
        with pytest.raises(SettingsError, match=said) as refused:
            Settings.read({**models, **more})
        assert "sk-" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        *("redis://store", "rediss://app:pw@store.example:6380/2", "unix:///run/store.sock"),
        *("redis://[::1]:6379/", "redis://:p%40w@127.0.0.1"),
    ],
)
def test_address_of_a_shared_store(url: str) -> None:
    found = load_settings({"SHARED_STORE_URL": url, "SHARED_CONVERSATIONS": "true"})
    assert found.shared_store_url is not None
    assert found.shared_store_url.get_secret_value() == url
    SharedStore(url)


@pytest.mark.parametrize(
    "url",
    [
        *("store:6379", "http://store", "redis://", "redis://:pw-1@", "redis://store:0"),
        *("redis://store:99999", "redis://store/two", "redis://store/0/1", "unix://"),
        *("redis://store?db=1", "redis://[::1", "memcached://store", "unix://host/x"),
        *("REDIS://store", "unix:/run/store.sock", "redis://store..example"),
        *(f"redis://{64 * 'a'}.example", "redis://%C3%A9..example"),
    ],
)
def test_what_is_no_address_of_a_shared_store_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="SHARED_STORE_URL") as refused:
        load_settings({"SHARED_STORE_URL": url})
    assert "pw-1" not in str(refused.value)


def test_shared_conversations_need_a_shared_store() -> None:
    with pytest.raises(SettingsError, match="SHARED_STORE_URL is not set"):
        load_settings({"SHARED_CONVERSATIONS": "true"})


def test_address_of_a_shared_store_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "store"
    path.write_text("redis://:pw-1@store\n")
    found = load_settings({"SHARED_STORE_URL_FILE": str(path)})
    assert found.shared_store_url is not None
    assert found.shared_store_url.get_secret_value() == "redis://:pw-1@store"
    assert "pw-1" in found.telemetry().redact_values


@pytest.mark.parametrize(
    "name", ["BUDGETS_FILE", "PRICES_FILE", "KEYS_FILE", "OPENAI_API_KEY_FILE"]
)
@pytest.mark.parametrize("path", ["9" * 300, "/" + "9" * 300 + "/x"])
def test_path_that_cannot_exist_is_reported(name: str, path: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({name: path})
    assert [problem.partition("=")[0] for problem in refused.value.problems] == [name]


def test_key_file_of_an_unknown_user_is_reported() -> None:
    with pytest.raises(SettingsError, match="OPENAI_API_KEY_FILE"):
        load_settings({"OPENAI_API_KEY_FILE": "~nobody-there/key"})
