"""A native stack of a benchmark's own, away from a person's, and with nothing of the last run."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stack import facts as stack_facts
from stack.base import PartDiedError
from stack.native import NativeStack
from stack.preflight import port_problems
from stack.progress import Progress
from stack.supervisor import SupervisorError
from stack.waiting import WaitError

# Away also from the stacks of the tests and of other benchmarks.
_OFFSET: Final = 11_000


class OwnStackError(RuntimeError):
    """There is no room for it; the text says why."""


# What a stack may fail by, each with a text for a person.
STACK_ERRORS: Final = (OwnStackError, PartDiedError, SupervisorError, WaitError)


@contextmanager
def own_stack(directory: Path, progress: Progress) -> Iterator[NativeStack]:
    """Inside, it runs and is ready; its data and logs are in the directory, and stay.

    Raises OwnStackError.
    """
    shutil.rmtree(directory, ignore_errors=True)
    environ = {**os.environ, **stack_facts.shifted(_OFFSET), "STATE_DIR": str(directory)}
    stack = NativeStack(stack_facts.load(environ))
    # What one before it left that was killed.
    stack.stop()
    if problems := port_problems(stack.facts, stack.parts):
        raise OwnStackError("\n".join([*problems[:-1], "Is another one running?"]))
    with progress.activity("Starting a stack of its own"):
        stack.start()
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()
