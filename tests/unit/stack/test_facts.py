"""stack.env and the environment: priority, and rejected values."""

from pathlib import Path

import pytest

from stack import facts
from stack.facts import FactsError


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's .env, and a shell without these variables."""
    monkeypatch.setattr(facts, "OWN_ENV_FILE", tmp_path / ".env")
    monkeypatch.delenv("COMPOSE_DISABLE_ENV_FILE", raising=False)
    monkeypatch.delenv("LOKI_PORT", raising=False)
    return tmp_path / ".env"


def test_file_alone_gives_every_address() -> None:
    loaded = facts.load({})
    assert loaded["APP_URL"] == f"http://127.0.0.1:{loaded['APP_PORT']}"
    assert loaded["STACK_LISTEN"] == loaded["STACK_HOST"] == "127.0.0.1"
    assert loaded["DATA_DIR"] == str(facts.ROOT / ".chatscope" / "data")


def test_environment_wins_and_addresses_follow_it() -> None:
    loaded = facts.load({"APP_PORT": "3777", "STACK_HOST": "localhost"})
    assert loaded["APP_URL"] == "http://localhost:3777"
    assert loaded["STACK_LISTEN"] == "localhost"


def test_an_address_from_the_environment_is_not_put_together_again() -> None:
    assert facts.load({"LOKI_URL": "http://loki:3100"})["LOKI_URL"] == "http://loki:3100"


def test_rules_are_those_of_the_checkout_unless_others_are_named() -> None:
    assert facts.load({})["RULES_DIR"] == str(facts.ROOT)
    assert facts.load({"RULES_DIR": "/elsewhere"})["RULES_DIR"] == "/elsewhere"
    assert facts.load({"RULES_DIR": "here"})["RULES_DIR"] == str(facts.ROOT / "here")


def test_empty_variable_counts_as_unset() -> None:
    assert facts.load({"APP_PORT": ""}) == facts.load({})


def test_own_file_wins_over_the_defaults_and_the_shell_over_both(
    own_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_file.write_text("LOKI_PORT=3777\nOPENAI_API_KEY=secret\nLOG_LEVEL\n")
    assert facts.load()["LOKI_URL"] == "http://127.0.0.1:3777"
    assert facts.own_environment()["OPENAI_API_KEY"] == "secret"
    monkeypatch.setenv("LOKI_PORT", "3888")
    assert facts.load()["LOKI_URL"] == "http://127.0.0.1:3888"


def test_own_file_is_not_needed_and_can_be_switched_off_as_for_compose(
    own_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert facts.load()["LOKI_PORT"] == "3100"
    own_file.write_text("LOKI_PORT=3777")
    monkeypatch.setenv("COMPOSE_DISABLE_ENV_FILE", "1")
    assert facts.load()["LOKI_PORT"] == "3100"


def test_own_file_stays_out_where_an_environment_is_given(own_file: Path) -> None:
    own_file.write_text("LOKI_PORT=3777")
    assert facts.load({})["LOKI_PORT"] == "3100"


@pytest.mark.parametrize(
    ("publish", "reached"),
    [
        ("", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104
        ("127.0.0.2", "127.0.0.2"),
        ("203.0.113.7", "203.0.113.7"),
    ],
)
def test_only_app_and_grafana_are_looked_for_where_they_are_published(
    publish: str, reached: str
) -> None:
    loaded = facts.load({"PUBLISH_HOST": publish})
    assert loaded["PUBLISH_HOST"] == (publish or "127.0.0.1")
    for name in ("APP_URL", "GRAFANA_URL"):
        assert loaded[name].startswith(f"http://{reached}:")
    assert loaded["PUBLISHED_AT"] == reached
    assert loaded["STACK_LISTEN"] == "127.0.0.1"
    assert loaded["PROMETHEUS_URL"].startswith("http://127.0.0.1:")


def test_a_published_address_from_the_environment_stands() -> None:
    given = {"PUBLISH_HOST": "203.0.113.7", "APP_URL": "https://chat.example"}
    assert facts.load(given)["APP_URL"] == "https://chat.example"


def test_variables_that_are_no_facts_stay_out() -> None:
    assert "OPENAI_API_KEY" not in facts.load({"OPENAI_API_KEY": "secret"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_PORT", "0"),
        ("APP_PORT", "65536"),
        ("APP_PORT", "web"),
        ("APP_PORT", "٣٠٠٠"),
        ("RETENTION", "15d"),
        ("RETENTION", "0h"),
        ("RETENTION", "1.5h"),
        ("LOKI_URL", "loki:3100"),
        ("LOKI_URL", "http://[::1"),
        ("TEMPO_OTLP_ENDPOINT", "http://tempo:4317"),
        ("STACK_HOST", "my host"),
        ("PUBLISH_HOST", "http://0.0.0.0"),
    ],
)
def test_invalid_value_is_reported_with_its_name_and_the_accepted_ones(
    name: str, value: str
) -> None:
    with pytest.raises(FactsError) as caught:
        facts.load({name: value})
    assert any(
        line.startswith(f"{name}={value!r}") and "must be" in line for line in caught.value.problems
    )


def test_all_invalid_values_are_reported_together() -> None:
    with pytest.raises(FactsError) as caught:
        facts.load({"LOKI_GRPC_PORT": "many", "CONTENT_RETENTION": "15d"})
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("host", ["::1", "[::]", "chat.example", "http://0.0.0.0", "1.2.3.4.5"])
def test_address_that_cannot_be_published_is_reported_once(host: str) -> None:
    with pytest.raises(FactsError) as caught:
        facts.load({"PUBLISH_HOST": host})
    [problem] = caught.value.problems
    assert problem.startswith(f"PUBLISH_HOST={host!r} is not accepted: it must be an IPv4 address")


@pytest.mark.parametrize("name", ["STATE_DIR", "RULES_DIR"])
def test_home_directory_is_meant_by_a_tilde(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert facts.load({name: "~/there"})[name] == "/home/me/there"


def test_two_parts_on_one_port_are_refused() -> None:
    with pytest.raises(FactsError, match="LOKI_PORT and TEMPO_PORT are both 3100"):
        facts.load({"TEMPO_PORT": "3100"})


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", ""),
        ("/opt/grafana", "/opt/grafana"),
        ("~/grafana", str(Path.home() / "grafana")),
        ("grafana", str(facts.ROOT / "grafana")),
    ],
)
def test_place_of_grafana_is_whole_however_it_is_said(said: str, found: str) -> None:
    assert facts.load({"GRAFANA_HOME": said})["GRAFANA_HOME"] == found


def test_shifted_ports_make_a_stack_that_shares_none_with_the_first() -> None:
    first = facts.load({})
    second = facts.load({**facts.shifted(20_000, {}), "STATE_DIR": "elsewhere"})
    assert {second[name] for name in facts.ports(second)}.isdisjoint(
        first[name] for name in facts.ports(first)
    )
    assert second["APP_URL"].endswith(":23000")
    assert second["DATA_DIR"] == str(facts.ROOT / "elsewhere" / "data")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOPOLOGY", "ring"),
        ("TRACES_KEPT_PERCENT", "101"),
        ("SLOW_TRACE_MS", "10s"),
        ("EXPENSIVE_RESPONSE_USD", "much"),
        ("TRACE_WAIT", "soon"),
        ("TRACE_WAIT_AFTER_ROOT", "10"),
        ("TRACES_IN_MEMORY", "1e5"),
        ("TENANT", "a/b"),
        ("TENANT", "second"),
    ],
)
def test_invalid_value_of_the_scaled_stack_is_reported(name: str, value: str) -> None:
    with pytest.raises(facts.FactsError) as refused:
        facts.load({"TOPOLOGY": "scaled", name: value})
    [problem] = refused.value.problems
    assert problem.startswith(name)


def test_scaled_stack_with_tls_is_refused() -> None:
    certificate = dict.fromkeys(("OTLP_TLS_CERT_FILE", "OTLP_TLS_KEY_FILE"), __file__)
    facts.load(certificate)
    with pytest.raises(facts.FactsError, match="TOPOLOGY=scaled"):
        facts.load({"TOPOLOGY": "scaled", **certificate})
