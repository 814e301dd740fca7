"""Creates .venv from requirements-dev.txt, once for each content of that file.

Run by the system's Python as `python3 -m stack.bootstrap [parts]`. So it uses only the standard
library and the syntax of Python 3.8. With `parts` it also checks the requirements of the native
build, so that all problems are reported before anything starts.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time

from stack import machine, releases, stdio

ROOT = os.path.dirname(machine.STACK_DIR)
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
REQUIREMENTS = os.path.join(ROOT, "requirements-dev.txt")
STAMP = os.path.join(VENV, "installed-requirements")
STATE = os.path.join(ROOT, ".chatscope")
LOG = os.path.join(STATE, "setup.log")
PLAIN_LINE_EVERY_S = 15.0


def main() -> int:
    """Return exit code 0 if the environment matches requirements-dev.txt."""
    stdio.replace_unencodable()
    wanted = _fingerprint()
    if _installed() == wanted:
        return 0
    problems, python = _problems(with_parts="parts" in sys.argv[1:])
    if problems:
        _say("Chatscope cannot be set up on this machine yet:")
        for problem in problems:
            _say("  - " + problem)
        return 1
    os.makedirs(STATE, exist_ok=True)
    with open(os.path.join(STATE, "setup.lock"), "w", encoding="utf-8") as lock:
        # Two commands on a fresh checkout must not create the environment concurrently.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _installed() == wanted:
            return 0
        return _install(python, wanted)


def _problems(with_parts: bool) -> tuple[list[str], str]:
    problems = []
    python = ""
    try:
        python = machine.find_python()
    except machine.MachineError as error:
        problems.append(str(error))
    space = {ROOT: machine.VENV_GIB}
    if with_parts and not _with_docker() and _to_build():
        problems += machine.go_problems()
        space.update(machine.build_space())
    problems += machine.disk_problems(space)
    return problems, python


def _with_docker() -> bool:
    run = os.environ.get("RUN")
    return run == "docker" or (run != "native" and machine.docker_answers())


def _to_build() -> bool:
    """Return whether a component has no official release on this machine."""
    found = releases.find(releases.directory(os.environ), os.environ.get("PATH", ""))
    return len(found.used) < len(releases.PROJECTS)


def _install(python: str, wanted: str) -> int:
    _say("Setting up the Python environment in .venv ...")
    pip = [VENV_PYTHON, "-m", "pip", "--disable-pip-version-check"]
    for command in (
        # A working environment is updated in place: other processes may be using it.
        [python, "-m", "venv", *([] if _works(VENV_PYTHON) else ["--clear"]), VENV],
        [*pip, "install", "--no-input", "--require-hashes", "-r", REQUIREMENTS],
    ):
        if _run(command) != 0:
            _say("Setup failed; the end of .chatscope/setup.log:")
            _say("".join(_last_lines(LOG, 15)))
            return 1
    with open(STAMP, "w", encoding="utf-8") as stamp:
        stamp.write(wanted)
    return 0


def _works(python: str) -> bool:
    try:
        return subprocess.call([python, "-m", "pip", "--version"], stdout=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _run(command: list[str]) -> int:
    started = said = time.monotonic()
    with open(LOG, "a", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT
        )
        while True:
            try:
                return process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if time.monotonic() - said >= PLAIN_LINE_EVERY_S:
                    said = time.monotonic()
                    _say(f"  still installing after {said - started:.0f} s")


def _fingerprint() -> str:
    with open(REQUIREMENTS, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _installed() -> str | None:
    # A moved or partly removed environment has a stamp, but no Python that starts.
    if not os.path.exists(VENV_PYTHON):
        return None
    try:
        with open(STAMP, encoding="utf-8") as stamp:
            return stamp.read()
    except OSError:
        return None


def _last_lines(path: str, count: int) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readlines()[-count:]


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        stdio.discard_output()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        if error.filename is None:
            raise
        _say(f"Chatscope cannot be set up: {error.filename}: {error.strerror}")
        sys.exit(1)
