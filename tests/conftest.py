"""A stack for the tests, in each way: their own on shifted ports, or the one that runs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import facts as stack_facts
from stack import way
from stack.backends import Backends
from stack.base import Stack as RunningStack
from stack.docker import DockerStack
from stack.native import NativeStack
from stack.parts import missing_binaries
from tests.engine.daemon import EngineError
from tests.engine.engine import Engine, ready_engine
from tests.running import Stack

_HERE = Path(__file__).parent
_RUNNING = os.environ.get("STACK") == "running"
# Away from a stack that a person may have running on the same machine, and below the ports
# that the kernel gives to outgoing connections.
_OFFSET = 12_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each layer that needs more than Python carries its marker."""
    for item in items:
        layer = item.path.relative_to(_HERE).parts[0]
        if layer in ("stack", "chaos", "browser", "containers"):
            item.add_marker(layer)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The Docker engine with the stack's images; skips, with the reason, where there is none."""
    try:
        with ready_engine(os.environ.get("GRAFANA_HOME", "")) as engine:
            yield engine
    except EngineError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session", params=["running"] if _RUNNING else ["native", "docker"])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The stack, in each way that this machine has: first native, then in containers."""
    with pytest.MonkeyPatch.context() as patch:
        # A person's own settings are theirs.
        patch.setenv("COMPOSE_DISABLE_ENV_FILE", "1")
        if request.param == "running":
            yield from _as_it_runs(patch)
        else:
            environ = {
                **os.environ,
                **stack_facts.shifted(_OFFSET),
                "STATE_DIR": str(tmp_path_factory.mktemp("stack")),
            }
            engine = request.getfixturevalue("engine") if request.param == "docker" else None
            yield from _of_our_own(stack_facts.load(environ), engine, patch)


def _as_it_runs(patch: pytest.MonkeyPatch) -> Iterator[Stack]:
    patch.delenv("COMPOSE_DISABLE_ENV_FILE")
    found = way.running(stack_facts.load())
    if found is None:
        pytest.fail("STACK=running, and none runs: make up")
    with Backends(found.facts) as backends:
        yield Stack(found.facts, backends, found)


def _of_our_own(
    facts: dict[str, str], engine: Engine | None, patch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    running: RunningStack
    if engine:
        for name, value in engine.variables.items():
            patch.setenv(name, value)
        patch.delenv("COMPOSE_PROJECT_NAME", raising=False)
        running = DockerStack(facts, engine.missing)
    else:
        if missing := missing_binaries():
            names = ", ".join(binary.name for binary in missing)
            pytest.skip(f"not built: {names} (make build)")
        running = NativeStack(facts)
    with running, Backends(facts) as backends:
        yield Stack(facts, backends, running)
