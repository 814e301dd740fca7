"""The stack that a group of tests shares: on ports of its own, or an already running one."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress

import psutil
import pytest

from stack import facts as stack_facts
from stack import supervisor, way
from stack.backends import Backends
from tests import builds, groups
from tests.engine.daemon import EngineError
from tests.engine.engine import Engine, ready_engine
from tests.harness import covering, distribution, failures, layers, limits, notes, timing
from tests.running import Stack
from tests.stack import load as traffic
from tests.stack.filling import Window

_RUNNING = "running"


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the plugins of this suite before pytest is configured."""
    plugins = (builds, covering, distribution, failures, groups, layers, limits, notes, timing)
    for plugin in plugins:
        pluginmanager.register(plugin)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each group a stack of its own; the one in containers is made in tests/containers."""
    layer = layers.layer_of(metafunc.definition.nodeid)
    # A unit test may define its own fixture of that name.
    if "stack" not in metafunc.fixturenames or layer.name == "unit":
        return
    group = groups.of_users_of_the_stack(metafunc.definition.path)
    if group.name != "containers":
        if os.environ.get("STACK") == _RUNNING:
            names = [_RUNNING]
        else:
            also = [groups.SCALED] if metafunc.definition.path in groups.ALSO_SCALED else []
            names = [group.name, *also]
        metafunc.parametrize("stack", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Return the Docker engine with the stack's images; skip, with the reason, without one."""
    builds.wait_for_build()
    try:
        with ExitStack() as until_the_end:
            # Without a cache, building the images takes minutes.
            with limits.paused():
                made = ready_engine(os.environ.get("GRAFANA_HOME", ""))
                engine = until_the_end.enter_context(made)
            yield engine
    except EngineError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Return the stack of a group, as native processes, or the running one."""
    if request.param == _RUNNING:
        yield from _as_it_runs()
        return
    group = groups.named(request.param)
    topology = {"TOPOLOGY": os.environ.get("TOPOLOGY") or group.topology}
    with pytest.MonkeyPatch.context() as patch:
        # The user's own settings must not apply.
        patch.setenv("COMPOSE_DISABLE_ENV_FILE", "1")
        state = {"STATE_DIR": str(tmp_path_factory.mktemp("stack"))}
        shifted = stack_facts.shifted(group.offset, {**os.environ, **topology})
        facts = stack_facts.load({**os.environ, **topology, **shifted, **state})
        chosen = way.native(facts)
        builds.wait_for_programs_of(chosen)
        _kill(_left_behind(facts))
        with chosen as running, Backends(facts) as backends:
            yield Stack(facts, backends, running)
            # No graceful shutdown is needed, which takes many seconds.
            _kill(supervisor.own_processes(facts["STATE_DIR"]))


def _left_behind(facts: dict[str, str]) -> Iterator[psutil.Process]:
    """Yield processes of a stack on the same ports whose worker was killed."""
    for process in psutil.process_iter():
        if supervisor.stack_of(process):
            with suppress(psutil.Error):
                if process.environ().get("PROMETHEUS_PORT") == facts["PROMETHEUS_PORT"]:
                    yield process


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture(scope="session")
def load(stack: Stack) -> Iterator[traffic.Load]:
    """Run one load, shared by all tests that check its effects."""
    with traffic.load(stack.facts) as load:
        yield load


@pytest.fixture(scope="session")
def window(stack: Stack, load: traffic.Load) -> Window:
    """Return the time range of that load, once all of its effects have arrived."""
    return traffic.window(stack.facts, load)


def _as_it_runs() -> Iterator[Stack]:
    found = way.running(stack_facts.load())
    if found is None:
        pytest.fail("STACK=running, and none runs: make up")
    with Backends(found.facts) as backends:
        yield Stack(found.facts, backends, found)
