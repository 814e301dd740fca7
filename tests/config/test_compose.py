"""docker-compose.yml: the same stack as natively, and limits for every container."""

import re
from collections.abc import Iterator, Mapping
from string import Template
from typing import Any

import pytest

from app.settings import Settings
from app.transport.deadline import AFTER_GRACE_SECONDS
from stack import facts as stack_facts
from stack.facts import ROOT
from stack.images import IMAGES
from stack.parts import PARTS
from stack.secrets import HEADERS_FILE
from tests.config.conftest import Configured
from tests.config.files import (
    BACKENDS_COMPOSE,
    COLLECTOR,
    COMPOSE,
    INSIDE_PORTS,
    LOKI,
    PROCESSES,
    TEMPO,
    parsed,
    seconds,
)
from tests.each import for_each

# Containers that exit: three before the components, the other on demand.
_BEFORE = {"init", "secrets", "checkout"}
# Additional capabilities of containers: to change owners of files; to be executable at all.
_RIGHTS = {
    "init": {"CHOWN"},
    "secrets": {"CHOWN", "DAC_OVERRIDE", "NET_BIND_SERVICE"},
    "gateway": {"NET_BIND_SERVICE"},
}
_ONCE = {*_BEFORE, "demo"}
# Only in containers, with a profile.
_OPTIONAL = {"store"}
_FACTS = stack_facts.load({})
_SERVICES: dict[str, dict[str, Any]] = parsed(COMPOSE)["services"]
_STARTED = [part.name for part in PARTS if part.name not in ("app", "grafana")]
_NO_PROXY = ("NO_PROXY", "no_proxy")
_OLD_ENGINE = ROOT / "deploy" / "old-engine.compose.yaml"

each_service = for_each({name: name for name in _SERVICES})
each_part = for_each({part.name: part for part in PARTS})


def _published(services: Mapping[str, Any]) -> dict[str, set[tuple[str, int]]]:
    return {
        name: {(port["host_ip"], int(port["published"])) for port in service.get("ports", [])}
        for name, service in services.items()
    }


def _ports(facts: Mapping[str, str]) -> set[int]:
    return {int(facts[name]) for name in set(stack_facts.ports(facts)) - INSIDE_PORTS}


def test_there_is_one_container_for_each_part() -> None:
    assert set(_SERVICES) - _ONCE - _OPTIONAL == {part.name for part in PARTS}
    assert not any({"scale", "deploy", "container_name"} & set(s) for s in _SERVICES.values())


@each_service
def test_service_has_bounds_and_no_rights(name: str) -> None:
    service = _SERVICES[name]
    assert service["mem_limit"]
    assert float(service["cpus"]) > 0
    assert service["logging"]["options"]["max-size"]
    assert int(service["logging"]["options"]["max-file"]) > 1
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service.get("cap_add", ())) == _RIGHTS.get(name, set())
    if name not in ("init", "secrets"):
        assert not service["user"].startswith("0")


@each_part
def test_part_is_started_again_and_asked_where_it_says_it_is_ready(part: Any) -> None:
    service = _SERVICES[part.name]
    assert service["restart"] == "unless-stopped"
    # Inside its container, where Grafana listens on its image's port, and uses the backends through
    # the gateway.
    through = {
        f"{name}_URL": f"http://gateway:{_FACTS[f'{name}_PORT']}"
        for name in ("GATEWAY", "LOKI", "TEMPO")
    }
    own = {"GRAFANA_URL": "http://127.0.0.1:3000"}
    inside = {**_FACTS, **own, **({} if part.name == "gateway" else through)}
    assert service["healthcheck"]["test"][-1] == part.readiness(inside)
    assert service["healthcheck"]["retries"] > 1


def test_every_health_check_is_changed_for_an_old_engine() -> None:
    lines = r"^  (\w+): \{healthcheck: \{interval: 1s, .*start_interval: !reset null\}\}$"
    mended = re.findall(lines, _OLD_ENGINE.read_text(), re.MULTILINE)
    asked = [name for name, service in _SERVICES.items() if "healthcheck" in service]
    assert sorted(mended) == sorted(asked)


def test_default_of_each_fact_is_the_one_of_stack_env() -> None:
    facts = {name: default for name, default in _defaults() if name in _FACTS}
    assert set(stack_facts.ports(_FACTS)) - INSIDE_PORTS <= set(facts)
    assert facts == {name: _FACTS[name] for name in facts}


def _defaults() -> Iterator[tuple[str, str]]:
    """Yield each variable with its default, which may contain another one."""
    text, found = COMPOSE.read_text() + BACKENDS_COMPOSE.read_text(), 1
    innermost = re.compile(r"\$\{(\w+):-([^${}]+)\}")
    while found:
        yield from innermost.findall(text)
        text, found = innermost.subn(r"\2", text)


def test_published_are_the_facts_ports_on_loopback(configured: Configured) -> None:
    published = set().union(*_published(configured(BACKENDS_COMPOSE)).values())
    assert published == {("127.0.0.1", port) for port in _ports(_FACTS)}


def test_backends_are_published_by_their_overlay_only(configured: Configured) -> None:
    published = {name for name, ports in _published(configured()).items() if ports}
    assert published == {"app", "collector", "grafana"}
    ports = {port for _, port in _published(configured())["collector"]}
    assert ports == {int(_FACTS[name]) for name in ("OTLP_GRPC_PORT", "OTLP_HTTP_PORT")}


def test_published_ports_can_be_moved(configured: Configured) -> None:
    moved = stack_facts.load(stack_facts.shifted(100, {}))
    environ = {name: moved[name] for name in stack_facts.ports(moved)}
    published = set().union(*_published(configured(BACKENDS_COMPOSE, **environ)).values())
    assert {port for _, port in published} == _ports(moved)


def test_only_the_service_and_grafana_are_opened_to_others(configured: Configured) -> None:
    services = configured(BACKENDS_COMPOSE, PUBLISH_HOST="0.0.0.0")  # noqa: S104
    published = _published(services)
    opened = {name for name, on in published.items() if any(ip != "127.0.0.1" for ip, _ in on)}
    assert opened == {"app", "grafana"}


@pytest.mark.parametrize("host", ["", "127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_grafana_knows_its_published_address(configured: Configured, host: str) -> None:
    """Anonymous access depends on it, by start.sh."""
    service = configured(PUBLISH_HOST=host)["grafana"]
    published = {port["host_ip"] for port in service["ports"]}
    assert published == {service["environment"]["PUBLISH_HOST"]} == {host or "127.0.0.1"}
    assert service["entrypoint"][1:] == ["sh", "/etc/grafana/provisioning/start.sh", "/run.sh"]
    assert service["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] is None


_KEYS_OF_PROVIDERS = {
    f"{provider}_API_KEY"
    for provider in (
        *("ANTHROPIC", "AZURE_OPENAI", "DEEPSEEK", "GEMINI", "GROQ", "MISTRAL", "OPENROUTER"),
    )
}


def test_every_setting_of_the_service_is_handed_to_it() -> None:
    settings = {str(field.validation_alias) for field in Settings.model_fields.values()}
    handed = set(_SERVICES["app"]["environment"])
    # These two are the image's ports, to which the published ones map.
    assert settings - handed == {"HOST", "PORT"}
    # The other variables are read by the SDK and the HTTP and gRPC clients themselves.
    read_elsewhere = {name for name in handed if name.startswith("OTEL_")} | set(_NO_PROXY)
    read_elsewhere |= {HEADERS_FILE, "OPENAI_API_KEY_FILE", "SHARED_STORE_URL_FILE"}
    assert handed - settings <= read_elsewhere | _KEYS_OF_PROVIDERS


def test_page_names_the_keys_that_the_file_of_models_may_refer_to_in_containers() -> None:
    page = (ROOT / "docs" / "gateway.md").read_text().partition("## In the stack")[2]
    documented = set(re.findall(r"`(\w+_API_KEY)`", page))
    assert documented == _KEYS_OF_PROVIDERS | {"OPENAI_API_KEY"}
    assert documented <= set(_SERVICES["app"]["environment"])


def test_variable_names_another_image(configured: Configured) -> None:
    """As docs/versions.md says; without it, the image is the pinned one."""
    profile = {"COMPOSE_PROFILES": "replicas"}
    pinned = {name: service["image"] for name, service in configured(**profile).items()}
    assert {image.part: pinned[image.part] for image in IMAGES} == {
        image.part: image.reference for image in IMAGES
    }
    for image in IMAGES:
        named = configured(**profile, **{image.variable: f"mirror.example/{image.tagged}"})
        assert named[image.part]["image"] == f"mirror.example/{image.tagged}"
    base = configured(BASE_IMAGE="mirror.example/python:3")["app"]["build"]["args"]
    assert base == {"BASE_IMAGE": "mirror.example/python:3"}


def test_a_setting_reaches_the_service(configured: Configured) -> None:
    environment = configured(MAX_ANSWERS="7")["app"]["environment"]
    assert environment["MAX_ANSWERS"] == "7"
    assert environment["LOG_LEVEL"] is None


_READ = {"collector": COLLECTOR, "loki": LOKI, "tempo": TEMPO}
# Set by loki/start.sh.
_BY_SCRIPT = {"LOKI_PASSWORD"}


@pytest.mark.parametrize("name", _READ)
def test_variables_of_a_configuration_are_set(name: str, configured: Configured) -> None:
    environment = configured()[name]["environment"]
    used = set(re.findall(r"\$\{(?:env:)?([A-Z][A-Z0-9_]+)\}", _READ[name].read_text()))
    assert used
    assert {variable for variable in used if not environment.get(variable)} <= _BY_SCRIPT


@for_each({name: name for name in _STARTED})
def test_part_is_started_with_the_flags_of_the_native_way(name: str) -> None:
    assert _flags_in_container(name) == _native_flags(name)
    assert _flags_in_container(name)


def _native_flags(name: str) -> set[str]:
    """Return the variables of process-compose.yaml, with the values of a container."""
    # In its container each component listens on all addresses, at the ports of stack.env.
    listening = {**_FACTS, "STACK_LISTEN": "0.0.0.0"}  # noqa: S104
    places = {"DATA_DIR": "/data", "REPO_DIR": ".", "RULES_DIR": ".", "RUN_DIR": "."}
    # Without TLS, the same file twice.
    places |= {"SECRETS_DIR": "/run/secrets", "COLLECTOR_OVERLAY": "./otel-collector-config.yaml"}
    words = parsed(PROCESSES)["processes"][name]["entrypoint"]
    flags = [word for word in words if word.startswith("-")]
    return {Template(flag).substitute({**listening, **places}) for flag in flags}


def _flags_in_container(name: str) -> set[str]:
    service = _SERVICES[name]
    flags = [re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", flag) for flag in service["command"]]
    for volume in _given(name):
        flags = [flag.replace(volume["target"], volume["source"]) for flag in flags]
    return set(flags)


def _given(name: str) -> list[dict[str, Any]]:
    """Return the files of the checkout or of the operator that the service reads."""
    return [volume for volume in _SERVICES[name].get("volumes", []) if isinstance(volume, dict)]


@each_part
def test_part_has_as_long_to_stop_as_natively(part: Any) -> None:
    native = parsed(PROCESSES)["processes"][part.name]["shutdown"]["timeout_seconds"]
    if native == "${APP_STOP_SECONDS}":
        native = stack_facts.DEFAULT_GRACE_SECONDS + stack_facts.APP_STOP_AFTER_GRACE_SECONDS
    assert _seconds_to_stop(_SERVICES[part.name]["stop_grace_period"]) == native


_GRACES = pytest.mark.parametrize("grace", ["", "0", "4", "25", "2.5"])


@_GRACES
def test_app_is_killed_only_after_it_has_ended_itself(
    grace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSE_DISABLE_ENV_FILE", "1")
    monkeypatch.setenv("SHUTDOWN_GRACE_SECONDS", grace)
    limit = float(grace or 4) + AFTER_GRACE_SECONDS
    assert limit < stack_facts.app_stop_seconds() <= limit + 2
    period = _SERVICES["app"]["stop_grace_period"]
    assert _seconds_to_stop(period.replace(":-4", f":-{grace or 4}")) == limit + 1


@_GRACES
def test_grace_of_the_app_reaches_its_container(grace: str, configured: Configured) -> None:
    app = configured(SHUTDOWN_GRACE_SECONDS=grace)["app"]
    limit = float(grace or 4) + AFTER_GRACE_SECONDS
    assert _seconds_to_stop(app["stop_grace_period"]) == limit + 1


def test_grace_of_the_stack_is_the_default_of_the_app() -> None:
    default = Settings.model_fields["shutdown_grace_seconds"].default
    assert default == stack_facts.DEFAULT_GRACE_SECONDS


def _seconds_to_stop(duration: str) -> float:
    """Return the seconds of a compose duration, with the default of its variable."""
    text = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", duration)
    return sum(seconds(part) for part in re.findall(r"[0-9.]+[a-z]+", text))


@each_part
def test_volume_belongs_to_the_user_of_its_part(part: Any) -> None:
    init = str(_SERVICES["init"]["command"])
    service = _SERVICES[part.name]
    owned = re.findall(r"chown (\d+:\d+) (.*)", init.replace("\\n", "\n"))
    for volume in filter(lambda volume: isinstance(volume, str), service["volumes"]):
        name, inside = volume.split(":")[:2]
        if name.endswith("-data"):
            assert any(
                user == service["user"] and f"/data/{part.name}" in paths.split()
                for user, paths in owned
            )
            assert inside == f"/data/{part.name}"


@each_service
def test_no_place_of_the_checkout_is_created_by_docker(name: str) -> None:
    for volume in _given(name):
        assert volume["bind"] == {"create_host_path": False}
        assert volume["read_only"] is True
        if "$" not in volume["source"]:
            assert (ROOT / volume["source"]).exists()
    named = [volume for volume in _SERVICES[name].get("volumes", []) if isinstance(volume, str)]
    assert not [volume for volume in named if volume.startswith((".", "/", "~", "$"))]


def test_checkout_is_read_by_an_unprivileged_user() -> None:
    users = {_SERVICES[part.name]["user"] for part in PARTS}
    assert _SERVICES["checkout"]["user"] in users - {"0:0"}
    for part in PARTS:
        assert set(_SERVICES[part.name]["depends_on"]) >= _BEFORE


def test_checkout_looks_at_all_that_the_parts_must_read() -> None:
    looked_at = {volume["source"] for volume in _given("checkout")}
    read = {volume["source"] for name in _SERVICES for volume in _given(name)}
    assert looked_at == read


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ("", str(ROOT / "chatscope/genai/prices.json")),
        ("prices.json", str(ROOT / "prices.json")),
        ("./my prices.json", str(ROOT / "my prices.json")),
        ("/etc/prices.json", "/etc/prices.json"),
        ("~/prices.json", "/home/me/prices.json"),
    ],
)
def test_price_table_is_looked_for_where_the_native_service_does(
    configured: Configured, given: str, source: str
) -> None:
    services = configured(PRICES_FILE=given, HOME="/home/me")
    for name, target in {"app": "/etc/chatscope/prices.json", "checkout": "/prices.json"}.items():
        [volume] = [each for each in services[name]["volumes"] if each["target"] == target]
        assert (volume["type"], volume["source"]) == ("bind", source)


@pytest.mark.parametrize(
    ("name", "target"), [("MODELS_FILE", "models.toml"), ("KEYS_FILE", "keys.toml")]
)
@pytest.mark.parametrize(
    ("given", "source"),
    [
        ("", str(ROOT / "deploy/unset.toml")),
        ("my.toml", str(ROOT / "my.toml")),
        ("/etc/my.toml", "/etc/my.toml"),
    ],
)
def test_files_of_models_and_keys_are_mounted_where_they_are_set(
    configured: Configured, name: str, target: str, given: str, source: str
) -> None:
    services = configured(**{name: given})
    place = f"/etc/chatscope/{target}"
    for service, mounted in {"app": place, "checkout": f"/{target}"}.items():
        [volume] = [each for each in services[service]["volumes"] if each["target"] == mounted]
        assert (volume["type"], volume["source"]) == ("bind", source)
        assert volume["read_only"]
    assert (services["app"]["environment"][name] or "") == (place if given else "")


def test_parts_reach_each_other_without_a_proxy(configured: Configured) -> None:
    # Loki and Tempo call themselves at the third one.
    addresses = ["localhost", "127.0.0.1", "0.0.0.0"]  # noqa: S104
    names = [*(part.name for part in PARTS), *_OPTIONAL]
    here = [*addresses, *names, "host.docker.internal"]
    for said, hosts in {
        (): here,
        ("a.example", "b.example"): [*here, "a.example", "b.example"],
    }.items():
        services = configured(COMPOSE_PROFILES="demo", **dict(zip(_NO_PROXY, said, strict=False)))
        for name in set(services) - _BEFORE - _OPTIONAL:
            service = services[name]
            direct = {service["environment"][spelling] for spelling in _NO_PROXY}
            assert direct == {",".join(hosts)}, name


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_health_is_asked_without_a_proxy(part: Any) -> None:
    probe = " ".join(_SERVICES[part.name]["healthcheck"]["test"]).split()
    assert probe[probe.index("wget") + 1 :][:2] == ["-Y", "off"]


def test_spool_of_the_service_is_in_its_volume_or_directory() -> None:
    directory = _SERVICES["app"]["environment"]["TELEMETRY_SPOOL_DIR"]
    assert directory.startswith("/data/app/")
    assert "app-data:/data/app" in _SERVICES["app"]["volumes"]
    native = parsed(PROCESSES)["processes"]["app"]["environment"]
    assert "TELEMETRY_SPOOL_DIR=${DATA_DIR}/app/spool" in native


def test_budgets_are_counted_in_the_volume_or_directory_of_the_service() -> None:
    file = _SERVICES["app"]["environment"]["BUDGETS_FILE"]
    assert file == "/data/app/budgets.sqlite"
    native = parsed(PROCESSES)["processes"]["app"]["environment"]
    assert "BUDGETS_FILE=${DATA_DIR}/app/budgets.sqlite" in native
