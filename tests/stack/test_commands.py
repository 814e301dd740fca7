"""The commands of the README, as a user runs them, on a separate stack.

Those that depend on how the stack runs are repeated in tests/containers.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack import facts as stack_facts
from stack.facts import ROOT
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS
from tests.stack.shell import NARROW, Shell

_README = (ROOT / "README.md").read_text()
_RUNNING = (ROOT / "docs" / "running.md").read_text()


@dataclass(frozen=True)
class Second:
    """The state after `make down`."""

    down: int
    status_after_down: int
    up: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def up(shell: Shell) -> str:
    done = shell.run("make up")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _commands(page: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def _is_docker(command: str) -> bool:
    return command.startswith("docker compose ")


def test_docker_commands_of_the_readme_are_those_that_are_run_in_containers() -> None:
    """tests/containers/test_running_page.py runs each command of docs/running.md."""
    used = set(filter(_is_docker, _commands(_README)))
    assert used
    assert used <= set(_commands(_RUNNING))


def test_up_prints_addresses_and_queries_for_the_chat(shell: Shell, up: str) -> None:
    facts = stack_facts.load(shell.environment)
    for name in ("APP_URL", "PROMETHEUS_URL", "LOKI_URL", "TEMPO_URL"):
        assert facts[name] in up
    trace_id = re.search(r"[0-9a-f]{32}", up)
    assert trace_id
    # With Grafana, a link is shown instead of the queries.
    query, link = f'| trace_id="{trace_id[0]}"', f"query%22%3A%22{trace_id[0]}%22"
    assert query in re.sub(r"\s+", " ", up) or link in up
    *_, first, commands = up.splitlines()
    assert first == f"Open {facts['APP_URL']} and ask something."
    assert commands.startswith("make demo")


def test_up_fits_one_screen(up: str) -> None:
    screen = up[up.index("Chatscope is up") :].splitlines()
    assert len(screen) <= 24
    # A query is one line to copy, of any length; everything else fits the terminal's width.
    assert all(len(line) <= int(NARROW) for line in screen if "trace" not in line)


def test_up_again_says_that_it_is_up(shell: Shell, up: str) -> None:
    done = shell.run("make up")
    assert done.returncode == 0
    assert "up already" in done.stdout


@pytest.mark.parametrize("command", [each for each in _commands(_README) if not _is_docker(each)])
def test_command_of_the_readme_works(shell: Shell, up: str, command: str) -> None:
    done = shell.run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_chat_shows_answer_tokens_cost_and_trace(shell: Shell, up: str) -> None:
    shown = shell.run('make chat TEXT="What do you see?"').stdout
    assert "simulated" in shown
    assert "tokens" in shown
    assert "$" in shown
    assert re.search(r"[0-9a-f]{32}", shown)


def test_python_of_the_readme_works(shell: Shell, up: str) -> None:
    # The first block is part of the application of docs/quickstart.md.
    _, block = re.findall(r"^```python\n(.*?)^```", _README, re.DOTALL | re.MULTILINE)
    done = shell.run(f".venv/bin/python - <<'END'\n{block}\nEND")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_ledger_finds_each_item(shell: Shell, up: str) -> None:
    done = shell.run("LEDGER_SECONDS=2 make ledger")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "increments" in done.stdout


def test_status_names_each_part_as_ready(shell: Shell, up: str) -> None:
    def shown() -> str:
        # On a loaded machine a component may fail one health check.
        done = shell.run("make status")
        assert done.returncode == 0, done.stdout
        return done.stdout

    status = poll_until(shown, "all components to be ready", PATIENCE_SECONDS, 1.0)
    for part in ("app", "collector", "prometheus", "loki", "tempo"):
        assert re.search(rf"{part}.*ready", status), status


def test_logs_show_the_services_lines(shell: Shell, up: str) -> None:
    assert "answer completed" in shell.run("make logs PART=app").stdout


def test_taken_port_is_said_before_anything_starts(shell: Shell, up: str, tmp_path: Path) -> None:
    other = Shell({**shell.environment, "STATE_DIR": str(tmp_path)})
    done = other.run("make up")
    assert done.returncode != 0
    assert "Nothing was started" in done.stdout
    assert shell.environment["LOKI_PORT"] in done.stdout
    assert not (tmp_path / "data").exists()


@pytest.fixture(scope="module")
def second(shell: Shell, up: str) -> Second:
    """Continue after `make down` without RUN, like a user."""
    down, status = shell.run("make down"), shell.run("make status")
    return Second(down.returncode, status.returncode, shell.untold().run("make up"))


def test_down_stops_all(second: Second) -> None:
    assert second.down == 0
    assert second.status_after_down != 0


def test_up_without_run_picks_docker_where_an_engine_answers_and_says_why(
    shell: Shell, second: Second
) -> None:
    assert second.up.returncode == 0, second.up.stdout + second.up.stderr
    said = {
        "docker": "Running with Docker: Docker Engine",
        "native": "Running natively: no Docker engine responds",
    }
    assert said[shell.way] in re.sub(r"\s+", " ", second.up.stdout)


def test_status_without_run_takes_what_runs(shell: Shell, second: Second) -> None:
    assert shell.untold().run("make status").returncode == 0


def test_up_finds_what_was_stored(shell: Shell, up: str, second: Second) -> None:
    trace_id = re.search(r"[0-9a-f]{32}", up)
    assert trace_id
    facts = stack_facts.load(shell.environment)
    password = f"authorization: $(cat {facts['SECRETS_DIR']}/operator/basic)"
    found = shell.run(f'curl -sf -H "{password}" {facts["TEMPO_URL"]}/api/traces/{trace_id[0]}')
    assert found.returncode == 0


def test_down_without_run_stops_what_runs(shell: Shell, second: Second) -> None:
    assert shell.untold().run("make down").returncode == 0
    assert shell.untold().run("make status").returncode != 0
