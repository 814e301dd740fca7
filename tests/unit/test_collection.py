"""The garbage collector of a started service."""

import signal
from pathlib import Path

import pytest

from tests.unit.process import PATIENCE_SECONDS, patched, process

pytestmark = pytest.mark.slow

_AT_EXIT = """
import gc, multiprocessing.util, sys
def report():
    sys.stderr.write(f"enabled {gc.isenabled()}, kept {gc.get_freeze_count() > 10_000}\\n")
multiprocessing.util.Finalize(None, report, exitpriority=0)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_objects_of_the_startup_are_kept_and_later_garbage_is_collected(
    workers: int, tmp_path: Path
) -> None:
    with process("--workers", str(workers), **patched(tmp_path, _AT_EXIT)) as service:
        assert service.stderr is not None
        started = (line for line in service.stderr if "Application startup complete" in line)
        for _ in range(workers):
            next(started)
        service.send_signal(signal.SIGTERM)
        reports = [line.strip() for line in service.stderr if line.startswith("enabled")]
        assert service.wait(PATIENCE_SECONDS) == 0
    processes = 1 if workers == 1 else workers + 1  # with the one that supervises them
    assert reports.count("enabled True, kept True") == processes
