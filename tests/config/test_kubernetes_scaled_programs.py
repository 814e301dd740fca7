"""The programs of the scaled stack, with the files of our chart and the arguments of the values."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from stack.waiting import poll_until
from tests.config.charts import SCALED, Render, one
from tests.config.files import KUBERNETES, parsed
from tests.stores import free_port

_VALUES = KUBERNETES / "values" / "scaled"
_SECRETS = {
    "collector": ("token", "bearer", "metrics_token", "basic"),
    "kafka": ("password",),
    "loki": ("password",),
}
_KEY = "chatscope-test"

Start = Callable[..., "subprocess.Popen[bytes]"]


def _values(name: str) -> Any:
    return parsed(_VALUES / f"{name}.yaml")


def _env(variables: list[dict[str, Any]]) -> dict[str, str]:
    return {each["name"]: each.get("value", "from the cluster") for each in variables}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Return variables that differ where a component runs outside of its pod."""
    for component, keys in _SECRETS.items():
        (tmp_path / "secrets" / component).mkdir(parents=True)
        for key in keys:
            (tmp_path / "secrets" / component / key).write_text("abc")
    return {
        "STACK_HOST": "127.0.0.1",
        "GOSSIP_HOST": "127.0.0.1",
        "SECRETS_DIR": str(tmp_path / "secrets"),
        "S3_ACCESS_KEY": _KEY,
        "S3_SECRET_KEY": _KEY,
    }


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program in its own directory; stop all of them at the end."""
    with ExitStack() as stack:

        def started(
            name: str, *command: str | Path, env: Mapping[str, str]
        ) -> "subprocess.Popen[bytes]":
            log = stack.enter_context((tmp_path / f"{name}.log").open("w"))
            directory = tmp_path / name
            directory.mkdir()
            process = subprocess.Popen(command, cwd=directory, env=env, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield started


@pytest.fixture
def storage(binary: Callable[[str], Path], start: Start, tmp_path: Path) -> str:
    """Return the address of an object storage with the buckets of Loki and Tempo."""
    for bucket in _values("chatscope")["stack"]["objectStorage"]["buckets"].values():
        (tmp_path / "s3" / bucket).mkdir(parents=True)
    (tmp_path / "metadata").mkdir()
    address = f"127.0.0.1:{free_port()}"
    start(
        "versitygw",
        *(binary("versitygw"), f"--port={address}", "--quiet", "posix"),
        *(f"--sidecar={tmp_path / 'metadata'}", str(tmp_path / "s3")),
        env={"ROOT_ACCESS_KEY": _KEY, "ROOT_SECRET_KEY": _KEY},
    )
    # Any response: the request has no signature.
    poll_until(lambda: httpx2.get(f"http://{address}/"), address)
    return address


def _file(render: Render, storage: str, key: str) -> str:
    values = {"objectStorage": {"endpoint": storage, "insecure": True}}
    data = one(render(*SCALED, stack=values), "ConfigMap", "chatscope-config")["data"]
    return str(data[key])


def _ready(port: str, path: str = "/ready") -> None:
    url = f"http://127.0.0.1:{port}{path}"
    poll_until(lambda: httpx2.get(url).status_code == 200, url, 90)


@pytest.mark.parametrize("name", ["agent", "probe", "gateway", "sampling", "writer"])
def test_collector_accepts_its_configuration(
    binary: Callable[[str], Path], render: Render, places: Mapping[str, str], tmp_path: Path,
    name: str,
) -> None:  # fmt: skip
    base = {"probe": "agent", "sampling": "gateway"}.get(name, name)
    values = _values("gateway" if name == "sampling" else name)
    config_map = f"chatscope-{base}"
    data = one(render(*SCALED), "ConfigMap", config_map)["data"]
    for key, text in data.items():
        (tmp_path / Path(key).with_suffix(".yaml").name).write_text(text)
    arguments = [
        argument.replace("/etc/chatscope", str(tmp_path))
        for argument in values.get("command", {}).get("extraArgs", ())
    ]
    if name == "sampling":
        arguments.append(f"--config={tmp_path / 'sampling.yaml'}")
    done = subprocess.run(
        [binary("otelcol-scaled"), "validate", f"--config={tmp_path / 'relay.yaml'}", *arguments],
        env={**_env(values["extraEnvs"]), **places, "DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_logs_are_written_and_read_with_one_writer_killed(
    binary: Callable[[str], Path], render: Render, places: Mapping[str, str], storage: str,
    start: Start, tmp_path: Path,
) -> None:  # fmt: skip
    file = tmp_path / "config.yaml"
    file.write_text(_file(render, storage, "config.yaml"))
    values = _values("loki")
    pods = ("backend-0", "write-0", "write-1", "write-2", "read-0")
    ports = {
        pod: {name: str(free_port()) for name in ("LOKI_PORT", "LOKI_GRPC_PORT", "GOSSIP_PORT")}
        for pod in pods
    }
    gossip = f"127.0.0.1:{ports['backend-0']['GOSSIP_PORT']}"
    started = {}
    for pod in pods:
        part = pod.partition("-")[0]
        started[pod] = start(
            pod,
            *(binary("loki"), f"-config.file={file}", f"-target={part}"),
            *values["defaults"]["extraArgs"],
            *values[part].get("extraArgs", ()),
            env={
                **_env(values["defaults"]["extraEnv"]),
                **places,
                **ports[pod],
                **dict.fromkeys(("LOKI_GOSSIP", "LOKI_WRITE_GOSSIP"), gossip),
                "LOKI_BACKEND": f"127.0.0.1:{ports['backend-0']['LOKI_GRPC_PORT']}",
                "LOKI_NAME": pod,
                "DATA_DIR": str(tmp_path / pod / "data"),
                "LOKI_RULES_DIR": str(tmp_path),
            },
        )
    url = {pod: f"http://127.0.0.1:{ports[pod]['LOKI_PORT']}" for pod in pods}
    for pod in pods:
        _ready(ports[pod]["LOKI_PORT"])
    tenant = {"X-Scope-OrgID": "chatscope"}

    def write(pod: str, line: str) -> bool:
        body = _logs(line)
        done = httpx2.post(f"{url[pod]}/otlp/v1/logs", json=body, headers=tenant)
        return done.status_code == 204

    def read() -> set[str]:
        query = {"query": '{service_name="chat"}'}
        found = httpx2.get(
            f"{url['read-0']}/loki/api/v1/query_range", params=query, headers=tenant, timeout=20
        )
        return {line for each in found.json()["data"]["result"] for _, line in each["values"]}

    poll_until(lambda: write("write-0", "first"), "the writers know each other", 60)
    poll_until(lambda: read() == {"first"}, "the line is read", 60)
    started["write-0"].kill()
    poll_until(lambda: write("write-1", "second"), "two writers are enough", 60)
    poll_until(lambda: read() == {"first", "second"}, "both lines are read", 60)
    assert httpx2.post(f"{url['write-1']}/otlp/v1/logs", json=_logs("x")).status_code == 401


def _logs(line: str) -> object:
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": line}}
    service = {"key": "service.name", "value": {"stringValue": "chat"}}
    logs = {"resource": {"attributes": [service]}, "scopeLogs": [{"logRecords": [record]}]}
    return {"resourceLogs": [logs]}


def test_parts_of_tempo_start_and_find_each_other(
    binary: Callable[[str], Path], render: Render, places: Mapping[str, str], storage: str,
    start: Start, tmp_path: Path,
) -> None:  # fmt: skip
    values = _values("tempo")["global"]
    parts = (
        *("ingester", "distributor", "query-frontend", "querier"),
        *("metrics-generator", "compactor"),
    )
    ports = {
        part: {name: str(free_port()) for name in ("TEMPO_PORT", "TEMPO_GRPC_PORT")}
        for part in parts
    }
    gossip = {part: free_port() for part in parts}
    frontend = f"127.0.0.1:{ports['query-frontend']['TEMPO_GRPC_PORT']}"
    text = _file(render, storage, "tempo.yaml")
    for part in parts:
        file = tmp_path / f"{part}.yaml"
        assert text.count("0.0.0.0:4317") == 1
        # There is no flag for the address of the gossip.
        local = text.replace("0.0.0.0:4317", f"127.0.0.1:{free_port()}")
        file.write_text(f"{local}\nmemberlist: {{bind_addr: [127.0.0.1]}}\n")
        arguments = [
            argument.replace("tempo-gossip-ring:7946", f"127.0.0.1:{gossip['ingester']}").replace(
                "tempo-query-frontend-discovery:9095", frontend
            )
            for argument in values["extraArgs"]
        ]
        start(
            part,
            *(binary("tempo"), f"-target={part}", f"-config.file={file}", *arguments),
            f"-memberlist.bind-port={gossip[part]}",
            env={
                **_env(values["extraEnv"]),
                **places,
                **ports[part],
                "DATA_DIR": str(tmp_path / part),
            },
        )
    for part in parts:
        _ready(ports[part]["TEMPO_PORT"])
    members = f"http://127.0.0.1:{ports['distributor']['TEMPO_PORT']}/ingester/ring"
    poll_until(lambda: "ACTIVE" in httpx2.get(members).text, "the distributor knows the ingester")


@pytest.mark.parametrize("part", ["query", "ingestor", "router"])
def test_thanos_starts_with_the_arguments(
    binary: Callable[[str], Path], start: Start, tmp_path: Path, part: str
) -> None:
    values = _values("thanos")
    ports = [str(free_port()) for _ in range(4)]
    http, grpc, write, capnproto = ports
    arguments = [f"--http-address=127.0.0.1:{http}", f"--grpc-address=127.0.0.1:{grpc}"]
    if part == "query":
        labels = [f"--query.replica-label={each}" for each in values["additionalReplicaLabels"]]
        arguments += [*labels, *values["query"]["extraArgs"]]
    else:
        hashrings = tmp_path / "hashrings.json"
        hashrings.write_text('[{"endpoints": ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]}]')
        arguments += [
            f"--remote-write.address=127.0.0.1:{write}",
            f"--receive.capnproto-address=127.0.0.1:{capnproto}",
            '--label=receive_replica="1"',
            *values["receive"][part]["extraArgs"],
        ]
        arguments += (
            [
                f"--receive.hashrings-file={hashrings}",
                f"--receive.replication-factor={values['receive']['replicationFactor']}",
            ]
            if part == "router"
            else [f"--tsdb.path={tmp_path / 'data'}"]
        )
    command = "query" if part == "query" else "receive"
    start(part, binary("thanos"), command, *arguments, env={})
    _ready(http, "/-/ready")
