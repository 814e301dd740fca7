"""Builds the components from their pinned Go modules into the cache, each atomically."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.machine import build_space, disk_problems, go_problems
from stack.parts import BINARIES, Binary, binary_path, cache_dir, missing_binaries
from stack.progress import Progress, elapsed

TAIL_LINES = 20
_UNFINISHED = ".building-"


class BuildError(RuntimeError):
    """A component could not be built; the text contains the end of Go's output and its log file."""


def problems(
    *, with_tests: bool = True, without: Collection[str] = (), more: Collection[str] = ()
) -> list[str]:
    """Return the problems that prevent the build of missing components, each with its fix.

    The arguments are those of `build_missing`.
    """
    needed = {each.name for each in BINARIES if not each.for_tests or each.name in more}
    if not with_tests and needed <= set(without):
        return []
    wrong = go_problems()
    if wrong:
        return wrong
    missing = missing_binaries(with_tests=with_tests, without=without, more=more)
    share = len(missing) / len(BINARIES)
    if not share:
        return []
    return disk_problems({path: gib * share for path, gib in build_space().items()})


def build_missing(
    progress: Progress,
    *,
    with_tests: bool = True,
    only: str = "",
    without: Collection[str] = (),
    more: Collection[str] = (),
) -> None:
    """Build the programs that the cache lacks; keep other versions. Raises BuildError.

    `with_tests`: include programs that only tests use; `only`: a single program; `without`:
    programs that are not needed; `more`: programs of tests that are needed too.

    Builds sequentially: `go build` already uses all cores, and two linkers at once would double the
    memory.
    """
    if not missing_binaries(with_tests=with_tests, only=only, without=without, more=more):
        return
    cache_dir().mkdir(parents=True, exist_ok=True)
    with _alone(progress):
        _remove_unfinished()
        missing = missing_binaries(with_tests=with_tests, only=only, without=without, more=more)
        for number, binary in enumerate(missing, start=1):
            with progress.activity(f"Building {binary.name}, {number} of {len(missing)}"):
                _build(binary, progress)
            progress.say(f"Built {binary.name} in {elapsed(progress.since())}")


@contextmanager
def _alone(progress: Progress) -> Iterator[None]:
    with (cache_dir() / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("Another build is running on this machine; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_unfinished() -> None:
    # The lock is held, so unfinished directories belong to a build that was killed.
    for leftover in cache_dir().glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _build(binary: Binary, progress: Progress) -> None:
    target = binary_path(binary.name)
    log = cache_dir() / f"{binary.name}.log"
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=cache_dir()) as scratch:
        directory = binary.directory
        output = Path(scratch) / "out" / binary.name
        if binary.generated:
            directory = _copied_sources(binary, Path(scratch) / "module")
            _run(GENERATE, directory, log, binary, progress)
        command = ["go", "build", *binary.flags(), "-o", str(output), binary.package]
        _run(command, directory, log, binary, progress)
        shutil.rmtree(target.parent, ignore_errors=True)
        output.parent.rename(target.parent)
    log.unlink()


@contextmanager
def sources(binary: Binary) -> Iterator[Path]:
    """The directory in which Go finds the packages of a program; generated, if they have to be.

    Raises BuildError.
    """
    if not binary.generated:
        yield binary.directory
        return
    with tempfile.TemporaryDirectory(prefix="chatscope-") as scratch:
        directory = _copied_sources(binary, Path(scratch) / "module")
        done = run_go(GENERATE, directory)
        if done.returncode != 0:
            raise BuildError(f"{binary.name}: {done.stderr.strip()[-300:]}")
        yield directory


# As in the manifest: write the sources, and leave the compilation to `go build`.
GENERATE = [
    *("go", "tool", "builder", "--config", "manifest.yaml"),
    *("--skip-get-modules", "--skip-compilation"),
]


def _copied_sources(binary: Binary, directory: Path) -> Path:
    directory.mkdir()
    for source in binary.sources():
        shutil.copy(source, directory)
    return directory


def go_environment() -> dict[str, str]:
    """The environment of Go. Only the module files count: no cgo, no workspace of the user."""
    # Go needs HOME if no other variable sets its caches, and a service manager may not set it.
    home = {"HOME": str(Path.home())}
    return {**home, **os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}


def run_go(command: list[str], directory: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command of Go in a directory, with its output as text."""
    return subprocess.run(
        command,
        cwd=directory,
        env=go_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _run(command: list[str], cwd: Path, log: Path, binary: Binary, progress: Progress) -> None:
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=go_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            code = _wait(process, progress)
        finally:
            process.kill()
            process.wait()
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        raise BuildError(f"{binary.name} could not be built; the end of {log}:\n{tail}")


def _wait(process: subprocess.Popen[bytes], progress: Progress) -> int:
    while True:
        try:
            return process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            progress.tick()
