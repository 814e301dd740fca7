"""How long the load's process waits for a Collector that is unreachable."""

import subprocess
import sys
from pathlib import Path

import pytest

from chatscope.providers import SHUTDOWN_SECONDS
from stack.facts import ROOT
from tests.elapsed import takes_at_most

pytestmark = pytest.mark.slow

_LINGER_SECONDS = 0.5


def test_load_ends_when_its_last_items_cannot_be_sent_in_time(tmp_path: Path) -> None:
    options = {
        "--first": "0",
        "--rate": "100",
        "--endpoint": "http://127.0.0.1:9",
        "--spool": str(tmp_path / "spool"),
        "--linger": str(_LINGER_SECONDS),
    }
    arguments = [text for pair in options.items() for text in pair]
    with subprocess.Popen(
        [sys.executable, "-m", "ledger.source", "run", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout
            assert process.stdin
            process.stdout.readline()
            # Afterwards it shuts down like a service.
            with takes_at_most(_LINGER_SECONDS + SHUTDOWN_SECONDS, factor=1.3):
                process.stdin.close()
                process.wait(30)
        finally:
            process.kill()
