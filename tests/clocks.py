"""A wall clock that steps for one process, by libfaketime."""

from pathlib import Path
from typing import Final

LIBRARY: Final = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
RIGHT: Final = "+0"
# CPython 3.11 and later sleep until a moment of the monotonic clock, for which libfaketime 0.9.10
# always returns EINVAL. It leaves relative waits alone.
_SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
"""


class SteppedClock:
    """The clock of a process that is started with the environment `environ`."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        (directory / "sitecustomize.py").write_text(_SLEEP)
        self.step(RIGHT)
        self.environ = {
            "PYTHONPATH": str(directory),
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, offset: str) -> None:
        """Set the offset from the machine's clock, such as `+2h`."""
        new = self._file.with_suffix(".new")
        new.write_text(offset)
        # The process may read the file at any time.
        new.replace(self._file)
