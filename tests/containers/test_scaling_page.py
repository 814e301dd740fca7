"""docs/scaling.md: several replicas in containers, with the store that they share."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from stack.facts import ROOT
from tests.containers.project import Project

_PAGE = (ROOT / "docs" / "scaling.md").read_text()
_ENVIRONMENT = re.findall(r"^(COMPOSE_PROFILES|SHARED_STORE_URL_FILE)=(\S+)$", _PAGE, re.MULTILINE)
[_COMMAND] = re.findall(r"^docker compose up .*--scale.*$", _PAGE, re.MULTILINE)
# Beyond the ports of the layer's stack.
_FIRST_PORT_AFTER = 60


@pytest.fixture
def replicas(project: Project, tmp_path: Path) -> Iterator[list[str]]:
    """Follow the page; return the addresses of the replicas."""
    if reason := project.engine.missing.get("store"):
        pytest.skip(reason)
    files = [str(ROOT / name) for name in project.environ["COMPOSE_FILE"].split(os.pathsep)]
    for name in project.engine.missing:
        overlay = tmp_path / f"without-{name}.yaml"
        overlay.write_text(f"services: {{{name}: {{profiles: [missing]}}}}")
        files.append(str(overlay))
    first = int(project.facts["APP_PORT"]) + _FIRST_PORT_AFTER
    environ = {
        **os.environ,
        **project.environ,
        **project.engine.variables,
        "COMPOSE_FILE": ":".join(files),
        **dict(_ENVIRONMENT),
        "APP_PORT": f"{first}-{first + 1}",
        "RATE_LIMIT_PER_ADDRESS": "4/hour",
    }
    assert "--scale app=2" in _COMMAND
    done = subprocess.run(
        ["bash", "-euc", f"{_COMMAND} --wait"],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        yield [f"http://127.0.0.1:{port}" for port in (first, first + 1)]
    finally:
        project.compose("--profile", "replicas", "rm", "--stop", "--force", "store")
        project.up()


def test_two_replicas_share_their_limits_in_the_store(replicas: list[str]) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    with httpx2.Client(trust_env=False, timeout=60) as client:
        statuses = [
            client.post(f"{replica}/v1/chat/completions", json=body).status_code
            for replica in replicas * 3
        ]
    assert statuses == [200, 200, 200, 200, 429, 429]
