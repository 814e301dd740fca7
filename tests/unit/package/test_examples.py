"""The commands of docs/your-service.md, as a reader runs them, with the examples."""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.facts import ROOT
from tests.receiver import Receiver
from tests.unit.package.environment import Environment, free_port, get, stop, uv, wait_until_up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.xdist_group("package")]

_DOCUMENT = ROOT / "docs" / "your-service.md"
_EXAMPLES = ("fastapi/shop.py", "plain_asgi/hello.py", "worker/worker.py")
_PORT = "8000"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def _commands() -> Iterator[list[str]]:
    for block in re.findall(r"^```sh\n(.*?)^```", _DOCUMENT.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            yield shlex.split(line)


def test_commands_of_the_document_work_in_their_order(receiver: Receiver, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    for example in _EXAMPLES:
        shutil.copy(ROOT / "examples" / example, folder)
    home = tmp_path / "environment"
    uv("venv", "-q", "--python", sys.executable, home)
    environment = Environment(folder, home / "bin" / "python")
    reached = uv("pip", "install", "-q", "--dry-run", "--python", home, "hatchling", check=False)
    if reached.returncode:
        pytest.skip(f"no package index: {reached.stderr.strip().splitlines()[-1]}")
    commands = list(_commands())
    port = str(free_port())
    for number, command in enumerate(commands):
        match command:
            case ["uv", "build", *rest]:
                assert rest == ["--wheel", "--out-dir", "dist"]
                uv("build", "-q", "--wheel", "--out-dir", folder / "dist", ROOT)
            case ["pip", "install", *packages]:
                named = [each.replace("$PWD", str(folder)) for each in packages]
                uv("pip", "install", "-q", "--python", home, *named)
            case ["uvicorn", app, "--port", shown]:
                assert shown == _PORT
                with environment.running(
                    receiver.endpoint, "uvicorn", app, "--port", port
                ) as process:
                    wait_until_up(int(port))
                    following = commands[number + 1] if number + 1 < len(commands) else []
                    path = "/"
                    if following[:1] == ["curl"]:
                        path = following[1].removeprefix(f"http://127.0.0.1:{_PORT}")
                    assert get(int(port), path) == 200
                    stop(process)
            case ["curl", url]:
                assert url.startswith(f"http://127.0.0.1:{_PORT}/")
                assert commands[number - 1][0] == "uvicorn"
            case ["python", script]:
                with environment.running(receiver.endpoint, "python", script) as process:
                    output, _ = process.communicate(timeout=240)
                    assert process.returncode == 0, output
            case _:
                pytest.fail(f"the test does not know {command}")
    spans = {(span.resource["service.name"], span.name) for span in receiver.spans}
    assert spans == {("shop", "GET /items/{item_id}"), ("hello", "GET"), ("worker", "job")}
    assert sum(receiver.last("worker.jobs").values()) == 20
    assert [each.body for each in receiver.log_records if each.body == "greeting"]
