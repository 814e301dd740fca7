"""docs/running.md: each command works, and a backup can be restored."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.backends import Backends
from stack.facts import ROOT
from stack.parts import PARTS
from stack.waiting import poll_until
from tests.containers.project import PATIENCE_SECONDS, Project
from tests.stack.turns import http_turn

_PAGE = (ROOT / "docs" / "running.md").read_text()
_BLOCKS = re.findall(r"```sh\n(.*?)```", _PAGE, re.DOTALL)
_BACKUP = next(block for block in _BLOCKS if "tar -czf" in block)
_RESTORE = next(block for block in _BLOCKS if "tar -xzf" in block)

Run = Callable[[str], str]


@pytest.fixture
def run(project: Project, tmp_path: Path) -> Run:
    """Run commands of the page on the layer's stack, outside the checkout."""
    files = [str(ROOT / name) for name in project.environ["COMPOSE_FILE"].split(os.pathsep)]
    # Without an image of a component, a plain `up` must not require it.
    for name in project.engine.missing:
        overlay = tmp_path / f"without-{name}.yaml"
        overlay.write_text(f"services: {{{name}: {{profiles: [missing]}}}}")
        files.append(str(overlay))
    environ = {**project.environ, **project.engine.variables, "COMPOSE_FILE": ":".join(files)}

    def ran(commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", commands],
            cwd=tmp_path,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return ran


@pytest.mark.parametrize("block", [b for b in _BLOCKS if b not in (_BACKUP, _RESTORE)])
def test_command_of_the_page_works(run: Run, block: str) -> None:
    assert run(block)


def test_restore_brings_back_what_was_backed_up_and_nothing_newer(
    run: Run, project: Project, backends: Backends, tmp_path: Path
) -> None:
    run("docker compose up --detach --wait")
    kept = http_turn(project.facts)
    poll_until(lambda: backends.tempo_trace(kept.trace_id), "the turn in Tempo", PATIENCE_SECONDS)
    run(_BACKUP)
    assert {path.name for path in (tmp_path / "backup").iterdir()} >= {
        f"{part.name}.tar.gz"
        for part in PARTS
        if part.name != "gateway"  # it keeps nothing
    }
    newer = http_turn(project.facts)
    poll_until(lambda: backends.tempo_trace(newer.trace_id), "the newer turn", PATIENCE_SECONDS)

    run(_RESTORE)
    lines = '{{service_name="chatscope"}} | trace_id="{}"'
    poll_until(lambda: backends.tempo_trace(kept.trace_id), "the kept turn", PATIENCE_SECONDS)
    assert backends.loki(lines.format(kept.trace_id))
    assert not backends.tempo_trace(newer.trace_id)
    assert not backends.loki(lines.format(newer.trace_id))
