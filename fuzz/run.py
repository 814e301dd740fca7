"""Runs of the engine: options, progress, figures, and the corpus afterwards."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz import blind, corpus
from fuzz.target import Target

ROOT: Final = Path(__file__).parent.parent
STATE: Final = ROOT / ".chatscope" / "fuzz"
# `#1024  pulse  cov: 12 ft: 34 corp: 5/67b lim: 8 exec/s: 910 rss: 11Mb`
_STATUS: Final = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) .*?corp: (\d+)/\S+.*?exec/s: (\d+)")
# Seconds for one input, after which it counts as endless; megabytes.
_TIMEOUT: Final = 60
_MEMORY: Final = 2_048
# Of the committed inputs of one target.
_MOST_INPUTS: Final = 120
_MOST_BYTES: Final = 8_000


@dataclass(frozen=True)
class Figures:
    """What a run of one target did."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    coverage: int | None = None  # of a run without feedback, there is none
    corpus: int = 0
    fault: Path | None = None

    @property
    def rate(self) -> float:
        """Inputs a second."""
        return self.inputs / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        reached = ""
        if self.coverage is not None:
            reached = f", {self.coverage} branches, {self.corpus} inputs in the corpus"
        end = f", FAULT: {self.fault}" if self.fault else ""
        return (
            f"{self.name}: {self.inputs} inputs in {self.seconds:.0f} s ({self.rate:.0f}/s)"
            f"{reached}{end}"
        )


def fuzz(target: Target, *, inputs: int | None = None, seconds: int | None = None) -> Figures:
    """Fuzz one target and show its progress; keep its corpus in STATE."""
    directory = _prepared(target)
    command = [
        *(sys.executable, "-m", "fuzz.engine", target.name, str(directory)),
        *(f"-max_len={target.max_bytes}", f"-timeout={_TIMEOUT}", f"-rss_limit_mb={_MEMORY}"),
        *(f"-artifact_prefix={STATE / target.name}-",),
        *([f"-dict={_dictionary(target)}"] if target.words else ()),
        *([f"-runs={inputs}"] if inputs else []),
        *([f"-max_total_time={seconds}"] if seconds else []),
        *("-print_final_stats=1", "-verbosity=1", "-use_value_profile=0"),
    ]
    begun = 0.0
    figures = Figures(target.name)
    output: list[str] = []
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True,
        errors="replace",
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            output = [*output[-60:], line]
            if match := _STATUS.search(line):
                done, coverage, size, _ = map(int, match.groups())
                # The start, with the instrumentation of all modules, does not count.
                begun = begun or time.monotonic()
                elapsed = time.monotonic() - begun
                figures = Figures(target.name, done, elapsed, coverage, size)
                if sys.stdout.isatty():
                    print(f"\r{figures}", end="\x1b[K", flush=True)
    if sys.stdout.isatty():
        print()
    if process.returncode:
        print("".join(output))
        return Figures(**{**figures.__dict__, "fault": _newest_fault(target)})
    return figures


def fuzz_blindly(
    target: Target, seed: int, *, inputs: int | None = None, seconds: int | None = None
) -> Figures:
    """Run changed inputs of the corpus without feedback, in this process (fuzz/blind.py)."""
    done, lasted, fault = blind.fuzz(
        target, inputs=inputs, seconds=seconds, seed=seed, state=STATE, timeout=_TIMEOUT
    )
    return Figures(target.name, done, lasted, fault=fault)


def minimize(target: Target) -> None:
    """Commit the smallest inputs that reach all code that the corpus reaches."""
    source, merged = _prepared(target), STATE / "merged" / target.name
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    command = [
        *(sys.executable, "-m", "fuzz.engine", target.name, "-merge=1", str(merged), str(source)),
        *(f"-max_len={target.max_bytes}", f"-timeout={_TIMEOUT}", f"-rss_limit_mb={_MEMORY}"),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    inputs = list(_bounded(corpus.packed(merged)))
    if not inputs:
        raise RuntimeError(f"{target.name}: the merge failed; the corpus stays")
    corpus.write(target.name, inputs)


def _bounded(inputs: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the smallest inputs within the bounds."""
    size = 0
    for data in sorted(inputs, key=len)[:_MOST_INPUTS]:
        size += len(data)
        if size > _MOST_BYTES:
            return
        yield data


def _prepared(target: Target) -> Path:
    directory = STATE / "corpus" / target.name
    corpus.unpack([*corpus.read(target.name), *target.seeds], directory)
    return directory


def _dictionary(target: Target) -> Path:
    """Write the words of the format as libFuzzer reads them."""
    path = STATE / f"{target.name}.dict"
    words = {word for word in target.words if 0 < len(word.encode()) <= 64}
    path.write_text("".join(f"{_quoted(word)}\n" for word in sorted(words)), "ascii")
    return path


def _quoted(word: str) -> str:
    if word.isascii() and word.isprintable() and "\\" not in word:
        return json.dumps(word)
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


def _newest_fault(target: Target) -> Path | None:
    found = sorted(STATE.glob(f"{target.name}-*"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None
