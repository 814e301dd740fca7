"""The shell scripts of deploy/scale, as natively and as in containers."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stack.scaled.configs import TARGET

_GIVEN = {
    "S3_ADDRESS": "s3:9100",
    "QUERY_ADDRESS": "prometheus:9090",
    "ALERTMANAGER_ADDRESS": "alertmanager:9093",
    "RECEIVE_ENDPOINTS": '["receive-1:10901"]',
    "SECOND_RECEIVE_ENDPOINT": "receive-second:10901",
}
_CREDENTIALS = "Basic cHJvbWV0aGV1czpw"


@pytest.fixture
def busybox() -> str:
    """Return the only program of a container; skip the test without it."""
    found = shutil.which("busybox")
    if not found:
        pytest.skip("BusyBox is not installed")
    return found


def _run(
    script: str, *arguments: str, environ: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a script, in a container's way if there is a BUSYBOX."""
    interpreter = [environ["BUSYBOX"], "sh"] if "BUSYBOX" in environ else ["sh"]
    return subprocess.run(
        [*interpreter, TARGET / script, *arguments],
        env={"PATH": os.defpath, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# -- prepare.sh ---------------------------------------------------------------------------


def _prepare(tmp_path: Path) -> dict[str, str]:
    """Run prepare.sh; return the content of each file, by its path."""
    for tenant in ("first", "second"):
        gateway = tmp_path / tenant / "gateway"
        gateway.mkdir(parents=True, exist_ok=True)
        (gateway / "basic").write_text(f"Basic of the {tenant}")
    directories = {
        "SECRETS_DIR": str(tmp_path / "first"),
        "SECOND_SECRETS_DIR": str(tmp_path / "second"),
    }
    done = _run("prepare.sh", environ={**_GIVEN, **directories})
    assert done.returncode == 0, done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    return {str(path.relative_to(tmp_path)): path.read_text() for path in files}


def test_secrets_are_generated_once(tmp_path: Path) -> None:
    made = _prepare(tmp_path)
    assert len(made["first/kafka/password"]) == len(made["first/s3/secret_key"]) == 64
    assert made["first/kafka/password"] != made["first/s3/secret_key"]
    assert _prepare(tmp_path) == made


def test_tenants_share_kafka_and_the_password_at_thanos(tmp_path: Path) -> None:
    made = _prepare(tmp_path)
    assert made["second/kafka/password"] == made["first/kafka/password"]
    assert made["second/gateway/basic"] == "Basic of the first"
    assert {name for name in made if name.startswith("second/")} == {
        "second/kafka/password",
        "second/gateway/basic",
    }


def test_files_of_thanos_have_the_addresses_and_the_key(tmp_path: Path) -> None:
    made = _prepare(tmp_path)
    assert f"secret_key: {made['first/s3/secret_key']}\n" in made["first/thanos/objstore.yml"]
    thanos = "".join(text for name, text in made.items() if name.startswith("first/thanos/"))
    assert all(address in thanos for address in _GIVEN.values())


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    _prepare(tmp_path)
    paths = [path for name in ("kafka", "s3", "thanos") for path in (tmp_path / "first").glob(name)]
    files = [file for path in paths for file in path.iterdir()]
    assert files
    assert {path.stat().st_mode & 0o077 for path in (*paths, *files)} == {0}


# -- with-s3.sh ---------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path) -> str:
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "secret_key").write_text("k")
    (tmp_path / "prometheus").mkdir()
    (tmp_path / "prometheus" / "basic").write_text(_CREDENTIALS)
    return str(tmp_path)


def test_program_gets_the_key_and_keeps_its_address(secrets: str) -> None:
    shown = "echo $S3_SECRET_KEY $ROOT_ACCESS_KEY $STACK_HOST"
    done = _run(
        "with-s3.sh", "sh", "-c", shown, environ={"SECRETS_DIR": secrets, "STACK_HOST": "192.0.2.1"}
    )
    assert done.stdout.split() == ["k", "chatscope", "192.0.2.1"]


def test_program_gets_the_address_of_its_container(secrets: str, busybox: str) -> None:
    environ = {"SECRETS_DIR": secrets, "STACK_HOST": "", "BUSYBOX": busybox}
    done = _run("with-s3.sh", busybox, "env", environ=environ)
    [address] = [
        line.partition("=")[2]
        for line in done.stdout.splitlines()
        if line.startswith("STACK_HOST=")
    ]
    own = subprocess.run([busybox, "hostname", "-i"], capture_output=True, text=True, check=True)
    assert address == own.stdout.split()[0]


# -- ready.sh -----------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            known = self.headers["authorization"] == _CREDENTIALS and self.path == "/-/ready"
            self.send_response(self.status if known else 401)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "password", "code"), [(200, True, 0), (503, True, 1), (200, False, 1)]
)
def test_component_is_ready_if_it_says_so_to_its_own_password(
    server: ThreadingHTTPServer, secrets: str, busybox: str, status: int, password: bool, code: int
) -> None:
    server.RequestHandlerClass.status = status  # type: ignore[attr-defined]
    if not password:
        (Path(secrets) / "prometheus" / "basic").write_text("Basic no")
    environ = {"SECRETS_DIR": secrets, "BUSYBOX": busybox}
    done = _run("ready.sh", str(server.server_port), environ=environ)
    assert done.returncode == code
