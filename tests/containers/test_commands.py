"""The commands that act on the stack itself, where it runs in containers.

The others ask a running stack over HTTP, which is the same in each way.
"""

from collections.abc import Iterator

import pytest

from tests import groups
from tests.engine.engine import Engine
from tests.stack.shell import Shell
from tests.stack.shell import shell as opened
from tests.stack.test_commands import (
    second,
    test_chat_shows_answer_tokens_cost_and_trace,
    test_down_stops_all,
    test_down_without_run_stops_what_runs,
    test_logs_show_the_services_lines,
    test_status_names_each_part_as_ready,
    test_status_without_run_takes_what_runs,
    test_taken_port_is_said_before_anything_starts,
    test_up_again_says_that_it_is_up,
    test_up_finds_what_was_stored,
    test_up_tells_what_runs_where_and_how_to_find_the_chat,
    test_up_without_run_picks_docker_where_an_engine_answers_and_says_why,
    up,
)

__all__ = [
    "second",
    "test_chat_shows_answer_tokens_cost_and_trace",
    "test_down_stops_all",
    "test_down_without_run_stops_what_runs",
    "test_logs_show_the_services_lines",
    "test_status_names_each_part_as_ready",
    "test_status_without_run_takes_what_runs",
    "test_taken_port_is_said_before_anything_starts",
    "test_up_again_says_that_it_is_up",
    "test_up_finds_what_was_stored",
    "test_up_tells_what_runs_where_and_how_to_find_the_chat",
    "test_up_without_run_picks_docker_where_an_engine_answers_and_says_why",
    "up",
]
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
