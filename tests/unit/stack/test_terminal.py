"""Commands on terminals with few characters, narrow ones, or with a reader that leaves."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection, serve

from stack.facts import ROOT

pytestmark = pytest.mark.slow

_TEXT = "Grüße \N{GRINNING FACE}"
_TOO_LONG_SECONDS = 120
# Modules whose output uses the same console.
_COMMANDS = [
    "stack",
    "drill",
    "alerts",
    "bench.backends",
    "bench.cpu",
    "bench.latency",
    "bench.load",
    "bench.overhead",
    "bench.paced",
    "bench.soak",
    "bench.start",
]
_END_OF_UP = """
from stack import facts, screen
from stack.firstchat import Chat
from stack.terminal import Terminal
loaded = facts.load({})
console = Terminal()
rows = [screen.Row(name, loaded[name], screen.READY) for name in ("APP_URL", "LOKI_URL")]
links = screen.Links("http://127.0.0.1:3000", "")
screen.show_up(console, rows, {"grafana": "…"}, Chat("…", "", "ab" * 16, 0.1), links)
"""


@pytest.fixture
def port() -> Iterator[int]:
    """Run a service that responds slowly enough for a reader to leave; yield its port."""

    def answer(connection: ServerConnection) -> None:
        for _ in connection:
            for _ in range(50):
                connection.send(json.dumps({"type": "delta", "content": f"{_TEXT}\n"}))
            done = {"type": "done", "usage": {"total_tokens": 3}, "trace_id": "ab" * 16}
            connection.send(json.dumps(done))

    with serve(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


def _environment(tmp_path: Path, **environ: str) -> dict[str, str]:
    own = {"COMPOSE_DISABLE_ENV_FILE": "1", "STATE_DIR": str(tmp_path), "RUN": "native"}
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    return {**inherited, **own, **environ}


def _run(words: list[str], environ: dict[str, str]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=_TOO_LONG_SECONDS,
    )


@pytest.mark.parametrize(
    "environ",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LANG": "C", "LC_ALL": ""},
    ],
    ids=str,
)
def test_chat_shows_what_the_terminal_can(
    port: int, tmp_path: Path, environ: dict[str, str]
) -> None:
    environment = _environment(tmp_path, APP_PORT=str(port), **environ)
    done = _run(["-m", "stack", "chat", "--", _TEXT], environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert done.stdout.count(b"Gr") == 50
    assert b"ab" * 16 in done.stdout


def test_end_of_up_is_shown_in_ascii(tmp_path: Path) -> None:
    done = _run(["-c", _END_OF_UP], _environment(tmp_path, PYTHONIOENCODING="ascii"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"make chat ? make status" in done.stdout


@pytest.mark.parametrize("name", _COMMANDS)
def test_help_of_every_command_is_shown_in_ascii(name: str, tmp_path: Path) -> None:
    done = _run(["-m", name, "--help"], _environment(tmp_path, PYTHONIOENCODING="ascii"))
    assert done.returncode == 0, done.stderr
    assert b"usage: " in done.stdout


@pytest.mark.parametrize("output", ["ascii", "ascii:strict"])
def test_demo_shows_a_foreign_name_in_ascii(output: str, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/Gr\u00fc\u00dfe"
    environ = _environment(tmp_path, PYTHONIOENCODING=output, CHATSCOPE_URL=url)
    done = _run(["-c", f"from demo.__main__ import main; main(); print({_TEXT!r})"], environ)
    assert b"UnicodeEncodeError" not in done.stderr
    assert b"Gr??e ?" in done.stdout


@pytest.mark.parametrize("words", [["chat", "--", "hi"], ["logs"]], ids=str)
def test_reader_that_leaves_is_no_error(port: int, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "app.log").write_text("==== started now\n" + "x\n" * 50)
    with subprocess.Popen(
        [sys.executable, "-m", "stack", *words],
        cwd=ROOT,
        env=_environment(tmp_path, APP_PORT=str(port)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as command:
        assert command.stdout
        assert command.stderr
        command.stdout.close()
        said = command.stderr.read()
        assert (command.wait(_TOO_LONG_SECONDS), said) == (0, b"")


@pytest.mark.parametrize("words", [["logs"], ["logs", "app"]], ids=str)
def test_log_lines_do_not_command_the_terminal(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "logs").mkdir()
    earlier = "earlier\n==== started now\n"
    (tmp_path / "logs" / "app.log").write_text(f"{earlier}\x1b]0;title\x07\x9b2Jgone\n")
    done = _run(["-m", "stack", *words], _environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert rb"\x1b]0;title\x07\x9b2Jgone" in done.stdout
    assert b"\x1b" not in done.stdout
    assert b"earlier" not in done.stdout


def test_unknown_part_is_named_with_those_there_are(tmp_path: Path) -> None:
    done = _run(["-m", "stack", "logs", "foo"], _environment(tmp_path))
    assert done.returncode == 1
    assert b"PART=foo is not accepted: use one of app, collector" in done.stdout


def test_logs_of_a_stack_that_never_ran_are_an_error(tmp_path: Path) -> None:
    done = _run(["-m", "stack", "logs"], _environment(tmp_path))
    assert done.returncode == 1
    assert b"make up" in done.stdout
