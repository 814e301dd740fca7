"""Inputs that are changed blindly, without regard to the code that they reach.

Each is made of one or two inputs of the corpus, which reach all known code, by a few random
changes. No code is instrumented: that is many times as fast as the engine, and finds what is near
the known paths. The same seed makes the same inputs.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final

from fuzz import corpus
from fuzz.target import Target, quiet

# Inputs between two looks at the clock.
_BLOCK: Final = 500
_MOST_CHANGES: Final = 4


class Endless(BaseException):  # which no parser catches
    """An input takes longer than the limit."""


def fuzz(
    target: Target,
    *,
    inputs: int | None,
    seconds: float | None,
    seed: int,
    state: Path,
    timeout: int,
) -> tuple[int, float, Path | None]:
    """Run inputs until there were so many, or so long; return their number, the seconds, and the
    file of an input that failed."""
    random, known = Random(seed), [*corpus.read(target.name), *target.seeds] or [b""]
    words = [word.encode() for word in target.words] or [b"\x00"]
    done, started = 0, time.monotonic()
    with quiet(), _limited(timeout) as restart:
        while (inputs is None or done < inputs) and (
            seconds is None or time.monotonic() - started < seconds
        ):
            restart()
            for _ in range(min(_BLOCK, _BLOCK if inputs is None else inputs - done)):
                data = changed(random, known, words)[: target.max_bytes]
                try:
                    target.run(data)
                except (Exception, Endless) as error:
                    path = state / f"{target.name}-blind-{seed}-{done}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                    print(f"{target.name}: {error!r}", file=sys.stderr)
                    return done, time.monotonic() - started, path
                done += 1
    return done, time.monotonic() - started, None


@contextmanager
def _limited(timeout: int) -> Iterator[Callable[[], object]]:
    """Yield a function that begins the time limit anew; past it, Endless is raised."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Endless(f"no end within {timeout} s")

    before = signal.signal(signal.SIGALRM, end)
    try:
        yield lambda: signal.alarm(timeout)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def changed(random: Random, known: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Return an input with a few changes."""
    data = bytearray(random.choice(known))
    for _ in range(random.randint(1, _MOST_CHANGES)):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + random.choice((1, 1, 2, 4, 16)))
        match random.randrange(7):
            case 0:
                data[start:end] = random.randbytes(end - start)
            case 1:
                data[start:start] = random.randbytes(random.choice((1, 2, 8)))
            case 2:
                del data[start:end]
            case 3:
                data[start:start] = random.choice(words)
            case 4:
                data[start:end] = random.choice(words)
            case 5:  # a part of its own, or of another one
                other = random.choice((data, random.choice(known)))
                first = random.randrange(len(other) + 1)
                data[start:end] = other[first : first + random.choice((4, 16, 64))]
            case 6:
                data[start:] = random.choice(known)[start:]
    return bytes(data)
