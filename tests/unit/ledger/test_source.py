"""How long the load's process waits for a Collector that is unreachable, or slow."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chatscope.providers import SHUTDOWN_SECONDS, Providers
from ledger.source import _wait_until_sent
from stack.facts import ROOT
from tests.elapsed import takes, takes_at_most

pytestmark = pytest.mark.slow

_LINGER_SECONDS = 1.0


@contextmanager
def _load(spool: Path, environ: Mapping[str, str]) -> Iterator[Any]:
    options = {
        "--first": "0",
        "--rate": "100",
        "--spool": str(spool),
        "--linger": str(_LINGER_SECONDS),
    }
    arguments = [text for pair in options.items() for text in pair]
    with subprocess.Popen(
        [sys.executable, "-m", "ledger.source", "run", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_load_ends_when_its_last_items_cannot_be_sent_in_time(tmp_path: Path) -> None:
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with _load(tmp_path / "spool", nowhere) as process:
        assert process.stdout.readline().startswith("0 ")
        # Afterwards it shuts down like a service.
        with takes_at_most(2 * _LINGER_SECONDS + SHUTDOWN_SECONDS, factor=1.3):
            process.stdin.close()
            process.wait(60)
        assert process.returncode == 0


class _Backlog:
    """A delivery with so many batches left, of which one is accepted every 0.1 s."""

    def __init__(self, batches: int, *, progress: bool) -> None:
        self.batches = batches
        self.pipelines = {"logs": SimpleNamespace(spool=self, statistics=self)}
        self.exported = Counter[str]()
        self._progress = progress

    def flush(self, seconds: float) -> bool:
        time.sleep(0.1)
        if self._progress and self.batches:
            self.batches -= 1
            self.exported[""] += 1
        return True

    def is_empty(self) -> bool:
        return self.batches == 0


def test_backlog_that_is_accepted_slowly_is_waited_for() -> None:
    backlog: Any = _Backlog(20, progress=True)
    _wait_until_sent(Providers(backlog, backlog, backlog, backlog), seconds=0.5)
    assert backlog.is_empty()


def test_backlog_that_nobody_accepts_is_not_waited_for() -> None:
    backlog: Any = _Backlog(20, progress=False)
    with takes(0.5, factor=3):
        _wait_until_sent(Providers(backlog, backlog, backlog, backlog), seconds=0.5)
