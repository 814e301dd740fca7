"""The containers after `docker compose up`, as reported by the engine and the kernel."""

import psutil

from stack import facts as stack_facts
from tests.config.files import INSIDE_PORTS
from tests.containers.project import Project

_ONCE = ("init", "secrets", "checkout")
_KERNELS_OWN = ("/dev", "/proc", "/sys")
# Alertmanager's generated configuration, with its secrets.
_IN_MEMORY = {"grafana": {"/tmp"}, "alertmanager": {"/run"}, "gateway": {"/tmp"}}  # noqa: S108
# The sockets of Loki and Tempo, and the components that mount them.
_SOCKETS = dict.fromkeys(("collector", "gateway", "loki", "tempo"), ("/sockets",))
# File capability of the program; no process has it (CapEff).
_MAY_BIND = {("gateway", "CapBnd"): 1 << 10}


def test_every_part_is_healthy(project: Project) -> None:
    health = {name: container.health for name, container in project.parts().items()}
    assert set(health.values()) == {"healthy"}, health


def test_nothing_else_runs(project: Project) -> None:
    running = {name for name, found in project.containers().items() if found.pid}
    assert running == set(project.services)


def test_no_process_is_root(project: Project) -> None:
    for name, container in project.parts().items():
        for process in (psutil.Process(container.pid), *psutil.Process(container.pid).children()):
            assert 0 not in process.uids(), name
            assert 0 not in process.gids(), name


def test_no_process_has_a_capability_or_can_get_one(project: Project) -> None:
    for name, container in project.parts().items():
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            allowed = _MAY_BIND.get((name, kind), 0)
            assert int(container.status(kind)[0], 16) == allowed, f"{name}: {kind}"
        assert container.status("NoNewPrivs") == ["1"], name


def test_a_part_writes_nowhere_but_in_its_own_volume(project: Project) -> None:
    for name, container in project.parts().items():
        mounts = [(place, options) for place, options in container.mounts()]
        assert "ro" in dict(mounts)["/"], name
        writable = {
            place
            for place, options in mounts
            if "rw" in options and not place.startswith(_KERNELS_OWN)
        }
        temporary = _IN_MEMORY.get(name, set())
        assert writable <= {f"/data/{name}", *temporary, *_SOCKETS.get(name, ())}, name


def test_the_engine_holds_each_limit_that_is_written(project: Project) -> None:
    written = project.configuration()["services"]
    for name, container in project.containers().items():
        held, service = container.inspected["HostConfig"], written[name]
        assert held["Memory"] == int(service["mem_limit"]) > 0, name
        assert held["NanoCpus"] == int(float(service["cpus"]) * 1e9) > 0, name
        assert held["LogConfig"]["Type"] == service["logging"]["driver"], name
        assert held["LogConfig"]["Config"] == service["logging"]["options"], name
        if name not in _ONCE:
            assert held["PidsLimit"] == service["pids_limit"] > 0, name
            assert held["RestartPolicy"]["Name"] == "unless-stopped", name


def test_the_published_ports_are_those_promised_and_on_loopback_only(project: Project) -> None:
    missing = {"GRAFANA_PORT"} if "grafana" in project.engine.missing else set()
    promised = {
        ("127.0.0.1", int(project.facts[name]))
        for name in set(stack_facts.ports(project.facts)) - INSIDE_PORTS - missing
    }
    found = project.containers().values()
    published = set().union(*(container.published for container in found))
    assert published == promised
    listening = {
        tuple(connection.laddr)
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    ports = {port for _, port in promised}
    assert {address for address in listening if address[1] in ports} == promised


def test_each_part_sees_its_own_secrets_only(project: Project) -> None:
    for name, container in project.parts().items():
        seen = {place for place, _ in container.mounts() if place.startswith("/run/secrets")}
        assert seen <= {f"/run/secrets/{name}"}, name
        said = " ".join(container.inspected["Config"]["Env"])
        assert "PASSWORD=" not in said.replace("GRAFANA_ADMIN_PASSWORD=", "").replace(
            "ALERT_SMTP_PASSWORD", ""
        ), name


def test_init_containers_exited_with_success(project: Project) -> None:
    for name in _ONCE:
        state = project.containers()[name].inspected["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 0), name
