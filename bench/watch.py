"""The service with a watch on its event loop.

    python -m bench.watch FILE

Serves as `python -m app` does. Writes to FILE, as JSON, the longest CPU time that the
thread of the event loop has spent in one iteration of the loop since the last SIGUSR1, and the
stack that was found there. CPU time and not elapsed time: other processes do not count.
"""

import json
import signal
import sys
import threading
import time
import traceback
from asyncio import AbstractEventLoop, get_running_loop
from pathlib import Path
from typing import Final

from app import collection
from app.settings import load_settings, normalize_environment
from app.startup import run_reported

_BEAT_SECONDS: Final = 0.0005
_LOOK_SECONDS: Final = 0.001
_NOTED_SECONDS: Final = 0.002
_FRAMES: Final = 6


class Watch:
    """The longest iteration of the event loop."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._loop: AbstractEventLoop | None = None
        self._last = 0.0
        self._longest = 0.0
        self._stack: list[str] = []  # of the longest iteration
        self._seen: list[str] = []  # of the current one
        self._thread = threading.main_thread().ident or 0

    def start(self) -> None:
        """Watch the running loop. Called when the service is ready."""
        self._loop = get_running_loop()
        self._loop.add_signal_handler(signal.SIGUSR1, self._reset)
        self._last = time.thread_time()
        self._beat()
        threading.Thread(target=self._look, daemon=True).start()

    def _reset(self) -> None:
        self._longest, self._stack = 0.0, []
        self._write()

    def _beat(self) -> None:
        assert self._loop is not None
        now = time.thread_time()
        if now - self._last > self._longest:
            self._longest, self._stack = now - self._last, self._seen
            if self._longest > _NOTED_SECONDS:
                self._write()
                now = time.thread_time()
        self._seen = []
        self._last = now
        self._loop.call_later(_BEAT_SECONDS, self._beat)

    def _write(self) -> None:
        found = {"seconds": self._longest, "stack": self._stack}
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(found))
        temporary.replace(self._file)

    def _look(self) -> None:
        """Note where a long iteration is; code in C that keeps the interpreter lock is not seen."""
        clock = time.pthread_getcpuclockid(self._thread)
        while True:
            time.sleep(_LOOK_SECONDS)
            if time.clock_gettime(clock) - self._last > _NOTED_SECONDS:
                frame = sys._current_frames().get(self._thread)
                found = traceback.extract_stack(frame)[-_FRAMES:]
                self._seen = [f"{Path(each.filename).name}:{each.lineno}" for each in found]


def main() -> int:
    """Serve and watch."""
    collection.pause()
    settings = load_settings()
    normalize_environment()
    # As in `python -m app`.
    from app.serving import serve  # noqa: PLC0415

    watch = Watch(Path(sys.argv[1]))
    return run_reported(lambda: serve(settings, on_ready=watch.start))


if __name__ == "__main__":
    raise SystemExit(main())
