"""deploy/scale.compose.yaml: the scaled stack in containers, as natively, with limits."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from stack import facts as stack_facts
from stack.facts import ROOT, SCALE_ENV_FILE
from stack.images import IMAGES, SCALED_IMAGES
from stack.scaled import configs
from stack.scaled.native import ScaledStack
from tests.config.conftest import Configured
from tests.config.files import (
    COMPOSE,
    PROCESSES,
    SCALE_COMPOSE,
    SCALED_PROCESSES,
    parsed,
    seconds,
)

_SCALED: dict[str, dict[str, Any]] = parsed(SCALED_PROCESSES)["processes"]
_SINGLE: dict[str, dict[str, Any]] = parsed(PROCESSES)["processes"]
_NATIVE = {
    name: {**_SINGLE.get(name, {}), **_SCALED.get(name, {})} for name in (*_SINGLE, *_SCALED)
}
# They exit before the components start.
_OF_ONE_MACHINE = {"init", "secrets", "checkout"}
_ONCE = {*_OF_ONE_MACHINE, "second-secrets", "prepare"}
_RIGHTS = {
    "init": {"CHOWN"},
    "prepare": {"CHOWN", "DAC_OVERRIDE"},
    "secrets": {"CHOWN", "DAC_OVERRIDE", "NET_BIND_SERVICE"},
    "second-secrets": {"CHOWN", "DAC_OVERRIDE", "NET_BIND_SERVICE"},
    "gateway": {"NET_BIND_SERVICE"},
    "second-front": {"NET_BIND_SERVICE"},
}
_FACTS = stack_facts.load({"TOPOLOGY": "scaled"})
_TARGETS = configs.TARGET / "targets" / "docker.json"
# The image of a service that is not named after it.
_THANOS = {
    *("prometheus", "receive-1", "receive-2", "receive-second"),
    *("rule", "store-gateway", "compact"),
}
_COLLECTORS = {
    *("collector", "agent-2", "gateway-1", "gateway-2", "writer-1", "writer-2"),
    *("second-agent", "second-gateway", "second-writer"),
}
_PARTS = {
    **dict.fromkeys(_THANOS, "thanos"),
    **dict.fromkeys(_COLLECTORS, "collector"),
    "scraper": "prometheus",
    "loki-write": "loki",
    "second-front": "gateway",
    "secrets": "gateway",
    "second-secrets": "gateway",
    "checkout": "init",
    "prepare": "init",
}
# Directories of the checkout and of a native stack, in containers.
_PLACES = {
    "REPO_DIR": "",
    "RULES_DIR": "",
    "RUN_DIR": "/run",
    "SECRETS_DIR": "/run/secrets",
    "DATA_DIR": "/data",
    "GATEWAY_OVERLAY": "/deploy/scale/gateway.collector.yaml",
}
# Where the checkout is mounted; Prometheus finds its targets beside its configuration.
_MOUNTED = {
    "/deploy/scale": "/etc/scale",
    "/run/scraper": "/etc/scale",
    "/gateway": "/etc/gateway",
    "/loki": "/etc/loki",
    "/tempo": "/etc/tempo",
    "/prometheus": "/etc/prometheus",
}
_ADDRESS = re.compile(r"[\w.-]+:\d+$")
# Variables of a script that it sets itself, or of the shell.
_ASSIGNED = re.compile(r"(?:^|\s)(?:export |read -r )?([A-Z][A-Z0-9_]+)(?:=|\s*<)", re.MULTILINE)

each_service = pytest.mark.parametrize("name", sorted({*_NATIVE, *_ONCE}))
each_process = pytest.mark.parametrize("name", _NATIVE)
each_scaled_process = pytest.mark.parametrize("name", _SCALED)
each_gateway = pytest.mark.parametrize("name", ["gateway-1", "gateway-2", "second-gateway"])


@pytest.fixture(scope="module")
def services(configured: Configured) -> dict[str, Any]:
    """Return the services that docker compose makes of both files."""
    return configured(SCALE_COMPOSE)


def test_each_process_of_the_native_stack_has_a_container(services: dict[str, Any]) -> None:
    assert set(services) - _ONCE == set(_NATIVE)


@each_service
def test_service_has_limits_and_no_rights(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert int(service["mem_limit"]) > 0
    assert float(service["cpus"]) > 0
    assert service["logging"]["options"]["max-size"]
    assert int(service["logging"]["options"]["max-file"]) > 1
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service.get("cap_add") or ()) == _RIGHTS.get(name, set())
    assert not service.get("privileged")
    if name not in ("init", "secrets", "second-secrets", "prepare"):
        assert not service["user"].startswith("0")
    if name in _ONCE:
        assert service["network_mode"] == "none"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["pids_limit"] > 0


@each_process
def test_component_has_a_health_check(name: str, services: dict[str, Any]) -> None:
    check = services[name]["healthcheck"]
    assert check["test"][:2] == ["CMD", "/probe/busybox"]
    assert check["retries"] > 1
    words = check["test"]
    if "wget" in words:
        assert words[words.index("wget") + 1 :][:2] == ["-Y", "off"]
    assert "/probe" in {volume["target"] for volume in services[name]["volumes"]}


@each_process
def test_component_starts_after_those_that_prepare_it(name: str, services: dict[str, Any]) -> None:
    needed = {
        before
        for before, state in services[name]["depends_on"].items()
        if state["condition"] == "service_completed_successfully"
    }
    # The others read no file of `prepare`.
    own = {"prepare"} if name in _SCALED else set()
    assert needed == _OF_ONE_MACHINE | own


@each_scaled_process
def test_components_stop_in_the_native_order(name: str, services: dict[str, Any]) -> None:
    assert set(_NATIVE[name].get("depends_on", ())) <= set(services[name]["depends_on"])


@each_scaled_process
def test_component_has_as_long_to_stop_as_natively(name: str, services: dict[str, Any]) -> None:
    native = _NATIVE[name]["shutdown"]["timeout_seconds"]
    assert seconds(services[name]["stop_grace_period"]) == native


# -- programs and their arguments ---------------------------------------------------------


@each_scaled_process
def test_program_has_the_arguments_of_the_native_one(name: str, services: dict[str, Any]) -> None:
    scripts, arguments = _split(_in_containers(name))
    assert _split(_words(services[name])) == (scripts, arguments)
    assert scripts or arguments


def _in_containers(name: str) -> list[str]:
    """Return the words of a native process, with the places of a container."""
    made = []
    for word in _NATIVE[name]["entrypoint"]:
        text = re.sub(r"\$\{STACK_HOST\}:\$\{\w+\}$|\$\{S3_ADDRESS\}$", "ADDRESS:0", word)
        text = Template(text).safe_substitute({**_FACTS, **_PLACES})
        for place, target in _MOUNTED.items():
            text = re.sub(rf"(^|=){place}/", rf"\1{target}/", text)
        made.append(text)
    return made


def _words(service: dict[str, Any]) -> list[str]:
    """Return what a container executes; the first word is a program."""
    entrypoint = service.get("entrypoint") or ["the image's own"]
    return [*entrypoint, *(service.get("command") or ())]


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the shell scripts that execute a program, and the arguments of that program."""
    scripts = []
    while words and (words[0] in ("sh", "/probe/busybox") or words[0].endswith(".sh")):
        if words[0].endswith(".sh"):
            scripts.append(words[0])
        words = words[1:]
    return scripts, [_ADDRESS.sub("ADDRESS", word) for word in words[1:]]


@each_gateway
def test_gateway_samples_traces_when_asked_to(name: str, configured: Configured) -> None:
    overlay = "sampling.collector.yaml"
    given = {"TRACES_KEPT_PERCENT": "10", "GATEWAY_OVERLAY": overlay}
    service = configured(SCALE_COMPOSE, **given)[name]
    assert service["command"][-1] == f"--config=/etc/scale/{overlay}"
    assert (configs.TARGET / overlay).exists()
    assert service["environment"]["TRACES_KEPT_PERCENT"] == "10"
    head = SCALE_COMPOSE.read_text().partition("\n\n")[0]
    assert " ".join(f"{variable}={value}" for variable, value in given.items()) in head


# -- variables ----------------------------------------------------------------------------


def _files(service: dict[str, Any]) -> Iterator[Path]:
    """Yield the configuration files and scripts of the checkout that a container reads."""
    mounts = {
        volume["target"]: Path(volume["source"])
        for volume in service["volumes"]
        if volume["type"] == "bind"
    }
    checked = " ".join(service["healthcheck"]["test"])
    words = " ".join([*_words(service), checked])
    for path in re.findall(r"/etc/[\w./-]+(?:\.sh|\.ya?ml|/Caddyfile)", words):
        [source] = [
            source / path.removeprefix(f"{target}/")
            for target, source in mounts.items()
            if path.startswith(f"{target}/")
        ]
        yield source


def _used(path: Path) -> set[str]:
    """Return the variables that a file cannot do without."""
    text = path.read_text()
    if path.suffix == ".sh":
        text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
        found = {
            name
            for pair in re.findall(r"\$([A-Z][A-Z0-9_]+)|\$\{([A-Z][A-Z0-9_]+)\}", text)
            for name in pair
            if name
        }
        return found - set(_ASSIGNED.findall(text))
    if path.name == "Caddyfile":
        return set(re.findall(r"\{\$([A-Z0-9_]+)\}", text))
    return set(re.findall(r"\$\{(?:env:)?([A-Z][A-Z0-9_]+)\}", text))


@each_scaled_process
def test_variables_of_its_files_are_set(name: str, services: dict[str, Any]) -> None:
    files = list(_files(services[name]))
    used = set().union(*map(_used, files))
    # Set by the scripts in front of the program.
    used -= {
        made
        for path in files
        if path.suffix == ".sh"
        for made in _ASSIGNED.findall(path.read_text())
        if made != "STACK_HOST"
    }
    environment = services[name]["environment"]
    assert {variable for variable in used if environment.get(variable) is None} == set()


def test_variables_are_looked_for_in_every_kind_of_file(services: dict[str, Any]) -> None:
    found = {path.name for name in _SCALED for path in _files(services[name])}
    assert found == {
        *("agent.collector.yaml", "node.collector.yaml", "gateway.collector.yaml"),
        *("writer.collector.yaml", "loki.yaml", "tempo.yaml", "Caddyfile"),
        *("kafka.sh", "with-s3.sh", "start.sh", "ready.sh", "prometheus.yml"),
    }


@each_gateway
def test_variables_of_tail_sampling_are_set(name: str, services: dict[str, Any]) -> None:
    used = _used(configs.TARGET / "sampling.collector.yaml")
    assert used
    assert used <= set(services[name]["environment"])


@each_scaled_process
def test_component_has_the_variables_of_the_native_one(name: str, services: dict[str, Any]) -> None:
    """Literal values are equal; those with the native addresses and places are set."""
    given = dict(each.split("=", 1) for each in _SCALED[name].get("environment", ()))
    # Natively all are on one machine, so their ports differ.
    given = {variable: value for variable, value in given.items() if not value.endswith("_PORT}")}
    environment = services[name]["environment"]
    assert set(given) <= set(environment)
    literal = {variable: value for variable, value in given.items() if "$" not in value}
    assert literal == {variable: environment[variable] for variable in literal}


def test_defaults_are_those_of_the_native_stack() -> None:
    text, found = SCALE_COMPOSE.read_text(), 1
    defaults: dict[str, str] = {}
    innermost = re.compile(r"\$\{(\w+):-([^${}]+)\}")
    while found:
        defaults |= dict(innermost.findall(text))
        text, found = innermost.subn(r"\2", text)
    facts = {name: value for name, value in defaults.items() if name in _FACTS}
    sampling = {"TRACES_KEPT_PERCENT", "SLOW_TRACE_MS", "EXPENSIVE_RESPONSE_USD"}
    assert {"RETENTION", "TRACE_WAIT_AFTER_ROOT", *sampling} <= set(facts)
    assert facts == {name: _FACTS[name] for name in facts}


def test_ports_of_scale_env_that_containers_use_are_its_own(services: dict[str, Any]) -> None:
    used = {
        "KAFKA_PORT": services["kafka"]["environment"]["KAFKA_PORT"],
        "KAFKA_CONTROLLER_PORT": services["kafka"]["environment"]["KAFKA_CONTROLLER_PORT"],
        "LOKI_WRITE_PORT": services["loki-write"]["environment"]["LOKI_PORT"],
        "LOKI_GOSSIP_PORT": services["loki"]["environment"]["GOSSIP_PORT"],
        "LOKI_WRITE_GOSSIP_PORT": services["loki-write"]["environment"]["GOSSIP_PORT"],
        "S3_PORT": services["loki"]["environment"]["S3_ADDRESS"].partition(":")[2],
    }
    assert used == {
        name: value for name, value in dotenv_values(SCALE_ENV_FILE).items() if name in used
    }


# -- addresses ----------------------------------------------------------------------------


def _listening(name: str, service: dict[str, Any]) -> set[int]:
    ports = {int(port) for port in re.findall(r"0\.0\.0\.0:(\d+)", " ".join(_words(service)))}
    used = set().union(*map(_used, _files(service)))
    ports |= {int(service["environment"][each]) for each in used if each.endswith("_PORT")}
    # In its own images, the default.
    return ports | ({3000} if name == "app" else set())


def test_addresses_are_of_services_that_listen_there(services: dict[str, Any]) -> None:
    listening = {name: _listening(name, services[name]) for name in _NATIVE}
    texts = {
        name: [*_words(service), *(service.get("environment") or {}).values()]
        for name, service in services.items()
    }
    texts["targets"] = [_TARGETS.read_text()]
    texts["prometheus.yml"] = [(configs.TARGET / "prometheus.yml").read_text()]
    found = set()
    for where, values in texts.items():
        for host, port in re.findall(
            r"(?<![\w.-])([a-z][\w-]*):(\d{4,5})\b", " ".join(map(str, values))
        ):
            assert int(port) in listening.get(host, ()), f"{where}: {host}:{port}"
            found.add(host)
    # Nothing connects to the others, or only to their sockets.
    assert set(_SCALED) - found == {"tempo", "scraper"}


def test_each_component_of_the_native_stack_is_scraped() -> None:
    entries = json.loads(_TARGETS.read_text())
    found = Counter(each["labels"]["job"] for each in entries for _ in each["targets"])
    native = Counter(ScaledStack.scraped.keys())
    native["collector"] += len(ScaledStack.more_collectors)
    native["prometheus"] += len(ScaledStack.thanos)
    native["loki"] += 1
    assert found == native
    assert (
        len({target for each in entries for target in each["targets"]}) == sum(found.values()) - 1
    )


def test_components_reach_each_other_without_a_proxy(services: dict[str, Any]) -> None:
    for name in _SCALED:
        for spelling in ("NO_PROXY", "no_proxy"):
            direct = services[name]["environment"][spelling].split(",")
            assert set(_NATIVE) <= set(direct)
            assert len(direct) == len(set(direct))


def test_no_more_ports_are_published_than_by_one_machine(
    services: dict[str, Any], configured: Configured
) -> None:
    single = configured()
    published = {name: each["ports"] for name, each in services.items() if each.get("ports")}
    assert published == {name: each["ports"] for name, each in single.items() if each.get("ports")}


# -- images, volumes, secrets -------------------------------------------------------------


@each_service
def test_image_is_the_pinned_one_of_its_program(name: str, services: dict[str, Any]) -> None:
    references = {image.part: image.reference for image in (*IMAGES, *SCALED_IMAGES)}
    expected = "chatscope-app" if name == "app" else references[_PARTS.get(name, name)]
    assert services[name]["image"] == expected


@pytest.mark.parametrize("image", SCALED_IMAGES, ids=lambda image: image.part)
def test_variable_names_another_image(image: Any, configured: Configured) -> None:
    named = configured(SCALE_COMPOSE, **{image.variable: "mirror.example/other:1"})
    users = {name for name in _SCALED if _PARTS.get(name, name) == image.part}
    assert users
    assert users == {
        name for name, each in named.items() if each["image"] == "mirror.example/other:1"
    }


def _volumes(service: dict[str, Any], kind: str) -> dict[str, str]:
    return {each["source"]: each["target"] for each in service["volumes"] if each["type"] == kind}


def _owners(text: str) -> dict[str, str]:
    """Return the user to whom a script gives each directory."""
    lines = re.findall(r"chown (?:-R )?(\d+:\d+) (.+)", text)
    return {place.strip('";'): user for user, places in lines for place in places.split()}


@each_process
def test_volume_belongs_to_the_user_of_its_service(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    data: dict[str, str | None] = {}
    for once in ("init", "prepare"):
        places = _volumes(services[once], "volume")
        owners = _owners(services[once]["command"][-1])
        data |= {source: owners.get(target) for source, target in places.items()}
    for source in _volumes(service, "volume"):
        if source.endswith("-data") or source in ("object-metadata", "sockets"):
            assert data[source] == service["user"], source


@each_process
def test_state_is_in_a_volume_of_its_own(name: str, services: dict[str, Any]) -> None:
    users = Counter(
        source
        for each in _NATIVE
        for source in _volumes(services[each], "volume")
        if source.endswith("-data")
    )
    own = [source for source in _volumes(services[name], "volume") if source.endswith("-data")]
    assert all(users[source] == 1 for source in own)
    stateless = {"gateway", "second-front", "prometheus"}
    assert bool(own) is (name not in stateless)


def test_each_named_volume_is_used() -> None:
    declared = set(_raw(SCALE_COMPOSE)["volumes"])
    text = SCALE_COMPOSE.read_text()
    assert {name for name in declared if f"- {name}:/" not in text} == set()


@each_scaled_process
def test_component_may_read_its_secrets_and_no_others(name: str, services: dict[str, Any]) -> None:
    scripts = ("gateway/secrets.sh", "deploy/scale/prepare.sh")
    owners = _owners("\n".join((ROOT / script).read_text() for script in scripts))
    mounted = {
        source: target
        for source, target in _volumes(services[name], "volume").items()
        if source.startswith("secrets-")
    }
    for source, target in mounted.items():
        assert owners[target.removeprefix("/run/secrets/")] == services[name]["user"]
        # Of its own tenant.
        second = source.startswith("secrets-second-")
        assert second is name.startswith("second-")
        assert source.removeprefix("secrets-second-").removeprefix("secrets-") == Path(target).name
    read = {
        Path(found).parent.name
        for path in _files(services[name])
        for found in re.findall(r"SECRETS_DIR\}?\}?(/[\w/]+)", path.read_text())
    }
    read |= {
        Path(found).parent.name
        for found in re.findall(r"/run/secrets/[\w/.-]+", " ".join(_words(services[name])))
    }
    assert read == {Path(target).name for target in mounted.values()}


def test_tenants_differ_in_all_but_the_stack(services: dict[str, Any]) -> None:
    second = {name for name in _NATIVE if name.startswith("second-")}
    assert len(second) == 4
    for name in _SCALED:
        expected = "second" if name in second else "chatscope"
        assert services[name]["environment"].get("TENANT", expected) == expected
    assert services["second-secrets"]["environment"]["SECRETS_DIR"] == "/run/second-secrets"
    assert services["prepare"]["environment"]["SECOND_SECRETS_DIR"] == "/run/second-secrets"


def test_checkout_looks_at_all_that_the_components_must_read(services: dict[str, Any]) -> None:
    looked_at = set(map(Path, _volumes(services["checkout"], "bind")))
    for service in services.values():
        for source in map(Path, _volumes(service, "bind")):
            assert source.exists()
            assert any(source.is_relative_to(place) for place in looked_at), source


# -- what Compose cannot share between files ----------------------------------------------


@pytest.mark.parametrize("name", ["x-part", "x-once", "x-file", "x-health", "x-hosts"])
def test_repeated_settings_are_those_of_one_machine(name: str) -> None:
    single, scaled = (dict(_raw(path)[name]) for path in (COMPOSE, SCALE_COMPOSE))
    if name == "x-part":
        assert set(scaled.pop("depends_on")) == {*single.pop("depends_on"), "prepare"}
    if name == "x-hosts":
        assert scaled.pop("LOKI_WRITE_SOCKET") == "loki.sock:3110"
        assert single.pop("LOKI_WRITE_SOCKET") == "loki.sock:3100"
        for spelling in ("NO_PROXY", "no_proxy"):
            hosts, _, _ = single.pop(spelling).partition("$")
            assert scaled.pop(spelling).startswith(hosts)
    assert scaled == single


def _raw(path: Path) -> Any:
    # Compose's own tag, which a plain YAML loader does not know.
    return yaml.safe_load(path.read_text().replace("!override", ""))
