"""A stack for the tests: one of their own on shifted ports, or the one that runs."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from stack import facts as stack_facts
from stack.backends import Backends
from stack.native import NativeStack
from stack.parts import missing_binaries

# Away from a stack that a person may have running on the same machine.
_OFFSET = 20_000
# Everything below is under test; what takes longer than this is broken, not slow.
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Stack:
    """The facts of a running stack and clients of its stores."""

    facts: dict[str, str]
    backends: Backends


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if os.environ.get("STACK") == "running":
        facts = stack_facts.load()
        with Backends(facts) as backends:
            yield Stack(facts, backends)
        return
    if missing := missing_binaries():
        names = ", ".join(binary.name for binary in missing)
        pytest.skip(f"not built: {names} (make build)")
    facts = stack_facts.load(
        {
            **os.environ,
            **stack_facts.shifted(_OFFSET),
            "STATE_DIR": str(tmp_path_factory.mktemp("stack")),
        }
    )
    with NativeStack(facts), Backends(facts) as backends:
        yield Stack(facts, backends)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.stack)
