"""docs/scaling.md: the commands with which the scaled stack is tried."""

import re
from pathlib import Path

from stack import facts
from stack.facts import ROOT
from stack.scaled.native import ScaledStack
from tests import builds, groups
from tests.stack.shell import shell

_PAGE = (ROOT / "docs" / "scaling.md").read_text()
_MAKE = re.findall(r"^TOPOLOGY=scaled make .*$", _PAGE, re.MULTILINE)


def test_commands_of_the_page_start_and_stop_the_scaled_stack(tmp_path: Path) -> None:
    builds.wait_for_programs_of(ScaledStack(facts.load({"TOPOLOGY": "scaled"})))
    up, down = _MAKE
    ports = facts.shifted(groups.SAMPLED, {"TOPOLOGY": "scaled"})
    with shell("native", groups.SAMPLED, tmp_path, ports) as opened:
        started = opened.run(up)
        assert started.returncode == 0, started.stdout + started.stderr
        assert "natively, scaled" in started.stdout
        for part in ("collector", "agent-2", "gateway-2", "writer-2"):
            assert re.search(rf"^{part} .*ready", started.stdout, re.MULTILINE), started.stdout
        status = opened.run(up.replace("make up", "make status"))
        assert status.returncode == 0, status.stdout
        stopped = opened.run(down)
        assert stopped.returncode == 0
        assert "Chatscope is down." in stopped.stdout


def test_unknown_topology_is_refused(tmp_path: Path) -> None:
    with shell("native", groups.SAMPLED, tmp_path, {"TOPOLOGY": "ring"}) as opened:
        done = opened.run("make status")
    assert done.returncode != 0
    assert "TOPOLOGY='ring' is not accepted: it must be single or scaled" in done.stdout
