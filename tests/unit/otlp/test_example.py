"""The example script: killed in the middle and started again, it loses nothing."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.waiting import poll_until
from tests.elapsed import takes_at_most
from tests.receiver import Receiver
from tests.unit.otlp.servers import http_server
from tests.unit.process import PATIENCE_SECONDS as _PATIENCE_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_ROOT = Path(__file__).parents[3]
_SCRIPT = _ROOT / "examples" / "otlp" / "script.py"
_DOCUMENT = _ROOT / "docs" / "otlp.md"
# The script hands items over within 0.2 s; the rest is for a busy machine.
_HANDED_OVER = 0.3


def _environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {**kept, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1", **variables}


def _start(endpoint: str, spool: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(_SCRIPT), "--spool", str(spool), *options],
        env=_environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.mark.parametrize("reachable", [True, False], ids=["reachable", "hung"])
def test_items_handed_over_before_a_kill_are_delivered_by_the_next_run(
    receiver: Receiver, tmp_path: Path, *, reachable: bool
) -> None:
    if not reachable:
        receiver.delay()
    killed = _start(receiver.endpoint, tmp_path, "--count", "1000000", "--rate", "200")
    printed: list[tuple[float, int]] = []
    try:
        assert killed.stdout
        while len(printed) < 300:
            printed.append((time.monotonic(), int(killed.stdout.readline())))
        # In the middle of its work; an unreachable receiver costs it 0.5 s to notice.
        killed.send_signal(signal.SIGKILL)
        at = time.monotonic()
    finally:
        _end(killed)
    patience = _HANDED_OVER if reachable else _HANDED_OVER + 0.5
    promised = {made - 1 for seen, made in printed if seen < at - patience}
    assert len(promised) > 50
    receiver.accept()
    again = _start(receiver.endpoint, tmp_path, "--count", "10", "--rate", "200")
    try:
        output, errors = again.communicate(timeout=_PATIENCE_SECONDS)
        assert again.returncode == 0, errors
    finally:
        _end(again)
    assert output.split() == [str(number) for number in range(1, 11)]

    def missing() -> list[set[int]]:
        return [
            promised - {int(item.attributes["item.number"]) for item in items}
            for items in (receiver.spans, receiver.log_records)
        ]

    def all_delivered() -> bool:
        # What the killed run was sending is claimed by it for 15 s.
        if missing() != [set(), set()]:
            more = _start(receiver.endpoint, tmp_path, "--count", "10", "--rate", "200")
            more.communicate(timeout=_PATIENCE_SECONDS)
        return missing() == [set(), set()]

    poll_until(all_delivered, "all that was handed over", 40, 1.0)


def test_sigterm_delivers_all_and_the_last_sum(receiver: Receiver, tmp_path: Path) -> None:
    process = _start(receiver.endpoint, tmp_path, "--count", "1000000")
    try:
        assert process.stdout
        for _ in range(50):
            process.stdout.readline()
        # Five seconds, and a half for the interpreter.
        with takes_at_most(5.5, factor=1.0):
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=_PATIENCE_SECONDS)
        assert process.returncode == 0, errors
    finally:
        _end(process)
    made = 50 + len(output.split())
    for items in (receiver.spans, receiver.log_records):
        numbers = Counter(item.attributes["item.number"] for item in items)
        assert numbers == Counter(range(made))
    assert list(receiver.last("script.items").values()) == [made]


def test_invalid_variables_are_all_reported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(_SCRIPT), "--spool", str(tmp_path)],
        env=_environment(OTEL_EXPORTER_OTLP_PROTOCOL="thrift", OTEL_EXPORTER_OTLP_TIMEOUT="soon"),
        capture_output=True,
        text=True,
        timeout=_PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2


def test_each_command_of_the_document_runs(tmp_path: Path) -> None:
    """In its order, with a receiver at the address that the document uses."""
    blocks = re.findall(r"^```sh\n(.*?)^```", _DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    commands = [line for block in blocks for line in block.splitlines() if line]
    assert any("script.py" in command for command in commands)
    with http_server() as server:
        for command in commands:
            text = command.replace("http://localhost:4318", f"http://127.0.0.1:{server.port}")
            words = shlex.split(text.replace("./telemetry", str(tmp_path)))
            variables = dict(word.split("=", 1) for word in words if word.startswith("OTEL_"))
            words = [word for word in words if not word.startswith("OTEL_")]
            if words[0] == "pip":
                # Installed from the checkout, which the test itself runs from.
                assert words[:2] == ["pip", "install"]
                continue
            assert words[0] == "python"
            done = subprocess.run(
                [sys.executable, *words[1:]],
                cwd=_ROOT,
                env=_environment(**variables),
                capture_output=True,
                text=True,
                timeout=_PATIENCE_SECONDS,
                check=False,
            )
            assert done.returncode == 0, (command, done.stderr)
    assert {call.path for call in server.calls} == {"/v1/traces", "/v1/logs", "/v1/metrics"}
