"""The stack that a group of tests shares, on ports of its own, or the one that runs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import facts as stack_facts
from stack import way
from stack.backends import Backends
from stack.native import NativeStack
from stack.parts import missing_binaries
from tests import groups
from tests.engine.daemon import EngineError
from tests.engine.engine import Engine, ready_engine
from tests.running import Stack
from tests.stack import load as traffic
from tests.stack.filling import Window

_HERE = Path(__file__).parent
_RUNNING = "running"


def pytest_configure(config: pytest.Config) -> None:
    # Else pytest-xdist would begin with the groups of the most tests, not with the longest.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each layer that needs more than Python carries its marker, and tests are in their groups."""
    for item in items:
        layer = item.path.relative_to(_HERE).parts[0]
        if layer in ("stack", "chaos", "browser", "containers"):
            item.add_marker(layer)
    groups.arrange(items)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each group has a stack of its own; that in containers is made in tests/containers."""
    group = groups.of_users_of_the_stack(metafunc.definition.path)
    if "stack" in metafunc.fixturenames and group.name != "containers":
        name = _RUNNING if os.environ.get("STACK") == _RUNNING else group.name
        metafunc.parametrize("stack", [name], indirect=True, scope="session")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The Docker engine with the stack's images; skips, with the reason, where there is none."""
    try:
        with ready_engine(os.environ.get("GRAFANA_HOME", "")) as engine:
            yield engine
    except EngineError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The stack of a group, as native processes; or the one that runs."""
    if request.param == _RUNNING:
        yield from _as_it_runs()
        return
    if missing := missing_binaries():
        names = ", ".join(binary.name for binary in missing)
        pytest.skip(f"not built: {names} (make build)")
    offset = groups.named(request.param).offset
    with pytest.MonkeyPatch.context() as patch:
        # A person's own settings are theirs.
        patch.setenv("COMPOSE_DISABLE_ENV_FILE", "1")
        state = {"STATE_DIR": str(tmp_path_factory.mktemp("stack"))}
        facts = stack_facts.load({**os.environ, **stack_facts.shifted(offset), **state})
        with NativeStack(facts) as running, Backends(facts) as backends:
            yield Stack(facts, backends, running)


@pytest.fixture(scope="session")
def load(stack: Stack) -> Iterator[traffic.Load]:
    """One load for all tests that look at what a load leads to."""
    with traffic.load(stack.facts) as load:
        yield load


@pytest.fixture(scope="session")
def window(stack: Stack, load: traffic.Load) -> Window:
    """The time of that load, when all that it led to is there."""
    return traffic.window(stack.facts, load)


def _as_it_runs() -> Iterator[Stack]:
    found = way.running(stack_facts.load())
    if found is None:
        pytest.fail("STACK=running, and none runs: make up")
    with Backends(found.facts) as backends:
        yield Stack(found.facts, backends, found)
