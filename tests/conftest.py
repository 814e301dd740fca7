"""A stack for the tests, in each way: their own on shifted ports, or the one that runs."""

import os
from collections.abc import Iterator

import pytest

from stack import facts as stack_facts
from stack import way
from stack.backends import Backends
from stack.base import Stack as RunningStack
from stack.docker import DockerStack
from stack.native import NativeStack
from tests import builds
from tests.engine.daemon import EngineError
from tests.engine.engine import Engine, ready_engine
from tests.harness import covering, distribution, failures, layers, limits, timing
from tests.running import Stack

_RUNNING = os.environ.get("STACK") == "running"
# Away from a stack that a person may have running on the same machine, and below the ports
# that the kernel gives to outgoing connections.
_OFFSET = 12_000


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the plugins of this suite, before anything is configured."""
    for plugin in (builds, covering, distribution, failures, layers, limits, timing):
        pluginmanager.register(plugin)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The Docker engine with the stack's images; skips, with the reason, where there is none."""
    builds.wait_for_build()
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
        builds.wait_for_binaries()
        running = NativeStack(facts)
    with running, Backends(facts) as backends:
        yield Stack(facts, backends, running)
