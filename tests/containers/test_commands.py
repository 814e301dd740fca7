"""The commands that control the stack, with a stack in containers.

The others send HTTP requests to a running stack, independent of how it runs.
"""

from collections.abc import Iterator

import pytest

from tests import groups
from tests.engine.engine import Engine
from tests.stack import test_commands as natively
from tests.stack.shell import Shell
from tests.stack.shell import shell as opened

_REMOVE_VOLUMES = """
from stack import docker, facts
docker.DockerStack(facts.load()).dispose()
"""


@pytest.fixture(scope="module")
def shell(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    environment = {**engine.variables, **engine.files(to_build=True)}
    offset = groups.COMMANDS_IN_CONTAINERS
    with opened("docker", offset, tmp_path_factory.mktemp("commands"), environment) as shell:
        yield shell
        shell.run(f".venv/bin/python -c '{_REMOVE_VOLUMES}'")


up, second = natively.up, natively.second

# In execution order.
test_up_tells_what_runs = natively.test_up_prints_addresses_and_queries_for_the_chat
test_up_again_says_that_it_is_up = natively.test_up_again_says_that_it_is_up
test_chat = natively.test_chat_shows_answer_tokens_cost_and_trace
test_status_names_each_part_as_ready = natively.test_status_names_each_part_as_ready
test_logs_show_the_services_lines = natively.test_logs_show_the_services_lines
test_taken_port_is_said = natively.test_taken_port_is_said_before_anything_starts
test_down_stops_all = natively.test_down_stops_all
test_up_picks_docker = (
    natively.test_up_without_run_picks_docker_where_an_engine_answers_and_says_why
)
test_status_without_run_takes_what_runs = natively.test_status_without_run_takes_what_runs
test_up_finds_what_was_stored = natively.test_up_finds_what_was_stored
test_down_without_run_stops_what_runs = natively.test_down_without_run_stops_what_runs
