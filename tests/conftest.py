"""A stack for the tests: one of their own on shifted ports, or the one that runs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import facts as stack_facts
from stack.backends import Backends
from stack.native import NativeStack
from stack.parts import missing_binaries
from tests.running import Stack

_HERE = Path(__file__).parent
# Away from a stack that a person may have running on the same machine, and below the ports
# that the kernel gives to outgoing connections.
_OFFSET = 12_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each layer that needs more than Python carries its marker."""
    for item in items:
        layer = item.path.relative_to(_HERE).parts[0]
        if layer in ("stack", "chaos", "browser"):
            item.add_marker(layer)


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
