"""The choice of the way to run, and the reason that is shown."""

import io

import pytest
from rich.console import Console

from stack import facts as stack_facts
from stack import way
from stack.progress import Progress


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUN", raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


def _choose() -> way.Choice:
    return way.choose(stack_facts.load({}), Progress(Console(file=io.StringIO())))


def test_without_an_engine_the_stack_runs_natively_and_says_why() -> None:
    choice = _choose()
    assert choice.way == "native"
    assert "no Docker engine responds" in choice.reason


def test_model_server_on_loopback_keeps_the_service_out_of_a_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1")
    assert "OPENAI_BASE_URL" in _choose().reason


def test_run_native_asks_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN", "native")
    assert _choose() == way.Choice("native", "set by RUN")


def test_run_docker_without_an_engine_is_an_error_and_not_another_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUN", "docker")
    with pytest.raises(way.WayError, match="no Docker engine responds"):
        _choose()


def test_unknown_way_is_reported_with_the_accepted_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN", "podman")
    with pytest.raises(stack_facts.FactsError, match="docker or native"):
        way.asked()


@pytest.mark.parametrize(("run", "count"), [("native", 1), ("docker", 1), ("", 2)])
def test_run_limits_where_a_running_stack_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, run: str, count: int
) -> None:
    monkeypatch.setenv("RUN", run)
    assert len(way.candidates(stack_facts.load({}))) == count
