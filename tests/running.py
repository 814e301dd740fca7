"""The running stack, as tests see it."""

from dataclasses import dataclass

from stack.backends import Backends

# What takes longer than this is broken, not slow.
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Stack:
    """The facts of a running stack and clients of its stores."""

    facts: dict[str, str]
    backends: Backends
