"""A native stack for a benchmark, separate from the user's, and without data of earlier runs."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stack import facts as stack_facts
from stack import way
from stack.base import PartDiedError
from stack.native import NativeStack
from stack.preflight import port_problems
from stack.progress import Progress
from stack.supervisor import SupervisorError
from stack.waiting import WaitError

# Added to the ports; differs from the offsets of tests and other benchmarks.
_OFFSET: Final = 11_000


class OwnStackError(RuntimeError):
    """The stack cannot be started; the text contains the reason."""


# Expected failures of a stack, each with a text for users.
STACK_ERRORS: Final = (OwnStackError, PartDiedError, SupervisorError, WaitError)


@contextmanager
def own_stack(directory: Path, progress: Progress) -> Iterator[NativeStack]:
    """Run a stack, ready inside; its data and logs remain in the directory.

    Raises OwnStackError.
    """
    shutil.rmtree(directory, ignore_errors=True)
    environ = {**os.environ, **stack_facts.shifted(_OFFSET), "STATE_DIR": str(directory)}
    stack = way.native(stack_facts.load(environ))
    # Processes of an earlier run that was killed.
    stack.stop()
    if problems := port_problems(stack.facts, stack.parts):
        raise OwnStackError("\n".join([*problems[:-1], "Is another one running?"]))
    with progress.activity("Starting a separate stack"):
        stack.start()
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()
