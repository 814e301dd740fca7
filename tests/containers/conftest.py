"""One stack in containers for this whole layer, on ports of its own."""

import os
from collections.abc import Iterator

import pytest

from stack import facts as stack_facts
from stack.backends import Backends
from stack.docker import DockerStack
from tests import groups
from tests.containers.project import Project
from tests.engine.daemon import SUBNETS
from tests.engine.engine import Engine
from tests.running import Stack
from tests.stack import load as traffic
from tests.stack.filling import Window


@pytest.fixture(scope="package")
def project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    ports = stack_facts.shifted(groups.named("containers").offset, {})
    environ = {
        **ports,
        **engine.files(),
        "COMPOSE_PROJECT_NAME": "chatscope-containers",
        "COMPOSE_DISABLE_ENV_FILE": "1",
        # Settings of the user's own stack must not apply.
        "PUBLISH_HOST": "",
        # Networks of the tests' engine.
        "TRUSTED_PEERS": f"127.0.0.1,{','.join(SUBNETS)}",
    }
    # Directory to which the operator's secrets are copied.
    state = {"STATE_DIR": str(tmp_path_factory.mktemp("containers"))}
    facts = stack_facts.load({**os.environ, **environ, **state})
    project = Project(engine, facts, environ)
    try:
        project.up()
        yield project
    finally:
        # No graceful shutdown is needed.
        project.compose("down", "--volumes", "--remove-orphans", "--timeout", "1")


@pytest.fixture
def backends(project: Project) -> Iterator[Backends]:
    with Backends(project.facts) as backends:
        yield backends


@pytest.fixture(scope="package")
def stack(project: Project) -> Iterator[Stack]:
    """Return the same stack for tests that also run natively."""
    with pytest.MonkeyPatch.context() as patch, Backends(project.facts) as backends:
        for name, value in {**project.engine.variables, **project.environ}.items():
            patch.setenv(name, value)
        yield Stack(project.facts, backends, DockerStack(project.facts, project.engine.missing))


@pytest.fixture(scope="package")
def load(stack: Stack) -> Iterator[traffic.Load]:
    """Run a load like that of the native stack, for tests of Grafana."""
    with traffic.load(stack.facts) as load:
        yield load


@pytest.fixture(scope="package")
def window(stack: Stack, load: traffic.Load) -> Window:
    return traffic.window(stack.facts, load)
