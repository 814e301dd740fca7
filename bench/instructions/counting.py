"""Counts instructions with valgrind, as the differences between forked processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from stack.facts import ROOT

_SCRIPT: Final = Path(__file__).with_name("workloads.py")
# A count of all workloads takes about half a minute of CPU.
_SECONDS: Final = 1800.0
_LINES_SHOWN: Final = 20


class CountingError(RuntimeError):
    """Instructions cannot be counted; the text contains the reason."""


def count(names: Sequence[str] = (), tree: Path = ROOT) -> dict[str, int]:
    """Return the instructions of one repetition of each workload, by default of all.

    `tree` contains the `app` and `chatscope` that are measured. Raises CountingError.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise CountingError("valgrind is not installed")
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        # Of valgrind's tools, this one counts instructions with the least time.
        counting = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        program = [sys.executable, "-P", str(_SCRIPT), *names]
        output = _run([valgrind, *counting, f"--log-file={log}", *program], tree)
        return of_repetition(json.loads(output), counts_in(log.read_text()))


def counts_in(log: str) -> dict[int, int]:
    """Return the instructions of each process in valgrind's log, by process ID."""
    lines = re.findall(r"^==(\d+)== I +refs: +([\d,]+)$", log, re.MULTILINE)
    return {int(process): int(number.replace(",", "")) for process, number in lines}


def of_repetition(
    found: Mapping[str, Mapping[str, int]], counts: Mapping[int, int]
) -> dict[str, int]:
    """Return the instructions of one repetition from the output of workloads.py."""
    try:
        return {
            name: round((counts[each["after"]] - counts[each["before"]]) / each["times"])
            for name, each in found.items()
        }
    except KeyError as error:
        raise CountingError(f"valgrind has no count of process {error}") from None


def _run(command: Sequence[str], tree: Path) -> str:
    """Return the output of the workloads; none of their processes is left."""
    # Variables of the user would change the counts.
    environ = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(tree),
    }
    with subprocess.Popen(
        # Coverage adds it to each process that a test starts.
        ["env", "--unset=COVERAGE_PROCESS_START", *command],
        cwd=tree,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        lines = errors.splitlines()[-_LINES_SHOWN:]
        raise CountingError("\n".join(["the workloads failed:", *lines]))
    return output
