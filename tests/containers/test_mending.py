"""A crashed component restarts, a hanging one is reported unhealthy, and stored data remains."""

import os
import signal

from ledger.backends import reconcile
from ledger.load import steady_load
from stack.backends import Backends
from stack.waiting import poll_until
from tests.containers.project import PATIENCE_SECONDS, Project
from tests.stack.turns import Turn, http_turn

_RATE = 50.0
_TOKENS = 'last_over_time(llm_token_usage_total{service_name="chatscope"}[1h])'


def _all(project: Project, health: str) -> None:
    def agreed() -> bool:
        found = {name: container.health for name, container in project.parts().items()}
        assert set(found.values()) == {health}, found
        return True

    poll_until(agreed, f"every part to be {health}", PATIENCE_SECONDS, interval=0.5)


def _processes(project: Project) -> dict[str, int]:
    pids = {name: container.pid for name, container in project.parts().items()}
    # Signal 0 only checks for existence; a PID of 0 would address this process group.
    assert all(pids.values()), pids
    return pids


def test_every_killed_part_comes_back_and_is_healthy_and_nothing_is_lost(project: Project) -> None:
    """Kill all of them at the same time, under a load of numbered items."""
    killed = _processes(project)
    with steady_load(project.facts, rate=_RATE) as load:
        http_turn(project.facts)
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)

        def all_new() -> bool:
            now = {name: container.pid for name, container in project.parts().items()}
            assert all(now[name] not in (0, killed[name]) for name in killed), now
            return True

        poll_until(all_new, "every part to be started again", PATIENCE_SECONDS)
        _all(project, "healthy")
    account = reconcile(project.facts, load, PATIENCE_SECONDS)
    assert account.lost == account.corrupted == 0, account
    restarts = {name: c.inspected["RestartCount"] for name, c in project.parts().items()}
    assert all(restarts.values()), restarts


def test_every_part_that_hangs_shows_as_unhealthy_and_later_as_healthy(project: Project) -> None:
    pids = _processes(project)
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    try:
        _all(project, "unhealthy")
    finally:
        for pid in pids.values():
            os.kill(pid, signal.SIGCONT)
    _all(project, "healthy")
    assert _processes(project) == pids


def test_service_exits_by_itself_on_sigterm(project: Project) -> None:
    project.compose("stop", "app")
    state = project.containers()["app"].inspected["State"]
    project.compose("up", "--wait", "--no-deps", "app")
    # 137 would be the engine's SIGKILL, after the grace period.
    assert state["ExitCode"] == 0


def _counters(backends: Backends) -> dict[frozenset[tuple[str, str]], float]:
    """Return each series of tokens with its last value, including those of earlier runs."""
    return {
        frozenset(sample.labels.items()): sample.value for sample in backends.prometheus(_TOKENS)
    }


def _stored(backends: Backends, turn: Turn) -> bool:
    query = f'{{service_name="chatscope"}} | trace_id="{turn.trace_id}" |= "answer completed"'
    return bool(backends.tempo_trace(turn.trace_id)) and len(backends.loki(query)) == 1


def test_stored_data_is_found_after_down_and_up(project: Project, backends: Backends) -> None:
    before = sum(_counters(backends).values())
    turn = http_turn(project.facts)
    tokens = turn.prompt_tokens + turn.completion_tokens

    def counted() -> bool:
        return sum(_counters(backends).values()) - before == tokens

    poll_until(lambda: _stored(backends, turn), "the turn in Tempo and Loki", PATIENCE_SECONDS)
    poll_until(counted, "its tokens in Prometheus", PATIENCE_SECONDS)
    counters = _counters(backends)

    project.compose("down")
    assert project.containers() == {}
    project.up()

    poll_until(lambda: _stored(backends, turn), "the turn of yesterday", PATIENCE_SECONDS)
    assert counters.items() <= _counters(backends).items()
