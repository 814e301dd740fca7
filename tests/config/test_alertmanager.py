"""Alertmanager's configuration, and the flags it needs because it expands no variables."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stack.local_http import local_client
from stack.waiting import poll_until
from tests.config.files import ALERTMANAGER, PROCESSES, broken_copy, literal_addresses, parsed
from tests.config.files import variables as variables_of


def started(program: Path, config: Path, directory: Path) -> "subprocess.Popen[str]":
    """Alertmanager on that file, on a free port: it has no flag that only checks."""
    flags = (
        f"--config.file={config}",
        f"--storage.path={directory}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
    )
    return subprocess.Popen([program, *flags], stderr=subprocess.PIPE, text=True)


def test_it_is_started_on_its_own_volume_and_address_and_looks_for_no_peers() -> None:
    started_with = parsed(PROCESSES)["processes"]["alertmanager"]["entrypoint"]
    assert set(started_with) >= {
        "--config.file=${REPO_DIR}/alertmanager/alertmanager.yml",
        "--storage.path=${DATA_DIR}/alertmanager",
        "--data.retention=${RETENTION}",
        "--web.listen-address=${STACK_LISTEN}:${ALERTMANAGER_PORT}",
        "--cluster.listen-address=",
    }


def test_no_variable_waits_to_be_expanded() -> None:
    assert variables_of(ALERTMANAGER) == set()


def test_no_address_or_port_is_spelled_out() -> None:
    assert literal_addresses(ALERTMANAGER) == []


def test_alertmanager_runs_on_it_without_a_warning(
    binary: Callable[[str], Path], tmp_path: Path
) -> None:
    with started(binary("alertmanager"), ALERTMANAGER, tmp_path) as process:
        try:
            said, status = _first_words(process)
        finally:
            process.terminate()
    assert "receiver: nobody" in status["config"]["original"]
    assert status["cluster"]["status"] == "disabled"
    assert [line for line in said if "level=INFO" not in line] == []


def test_alertmanager_refuses_an_unknown_key(binary: Callable[[str], Path], tmp_path: Path) -> None:
    broken = broken_copy(ALERTMANAGER, tmp_path, "receiver:", "reciever:")
    with started(binary("alertmanager"), broken, tmp_path) as process:
        try:
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode != 0
    assert "reciever" in said


def _first_words(process: "subprocess.Popen[str]") -> tuple[list[str], Any]:
    """What it logs until it listens, and what it then says of itself."""
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"Listening on.* address=(\S+)", line):
            with local_client(f"http://{found[1]}") as client:
                poll_until(lambda: client.get("/-/ready").is_success, "Alertmanager to be ready")
                return said, client.get("/api/v2/status").raise_for_status().json()
    raise AssertionError(f"it never listened, and said: {said}")
