"""What the benchmarks of a stack write, without a stack."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench import backends, first_trace, latency, results, start
from bench.configurations import BACKENDS
from bench.goals import GOALS
from bench.latency import Service
from bench.performance import SECTIONS, Section
from bench.results import Result, Row


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the results of the user's own runs."""
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    return tmp_path


def _result(name: str, directory: Path) -> Result:
    result = results.load(name, directory)
    assert result is not None
    return result


def _assert_complete(section: Section, result: Result) -> None:
    for variant in section.variants:
        assert all(result.find(figure, variant) for figure in section.figures)


def test_start_of_each_component_is_written(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {part.name: 0.5 for part in BACKENDS} | {"tempo": 2.0}
    memory = Row.of("idle without Grafana", "native", [350.0], "MB")
    monkeypatch.setattr(start, "_round", lambda _: seconds)
    monkeypatch.setattr(first_trace, "main", lambda _: [memory])
    assert start.main(["--rounds", "2"]) == 0
    result = _result("start", directory)
    _assert_complete(SECTIONS["start"], result)
    found = result.find("all four", "ours")
    assert found is not None
    assert found.value == 2.0
    [goal] = [goal for goal in GOALS if goal.benchmark == "start"]
    assert result.find(goal.row, goal.variant) == memory


def test_cost_of_each_component_is_written(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cost(load: backends.Load) -> backends.Cost:
        names = (*backends.INVOLVED[load.signal], backends.ALL)
        return backends.Cost(dict.fromkeys(names, 2.5), 8000.0, rejected=1)

    monkeypatch.setattr(
        backends, "_round", lambda _, chosen, __: [(load, cost(load)) for load in chosen]
    )
    assert backends.main(["--rounds", "2"]) == 0
    result = _result("backends", directory)
    for signal in ("spans", "log_records", "samples"):
        section = SECTIONS[f"backends_{signal}"]
        _assert_complete(
            replace(
                section, variants={f"{name}, together": "" for name in ("chatscope", "otel-lgtm")}
            ),
            result,
        )
        for variant in section.variants:
            assert all(result.find(figure, variant) for figure in list(section.figures)[:5])


def test_latency_of_each_signal_is_written(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def other_service(facts: Mapping[str, str]) -> Iterator[Service]:
        yield Service("other", facts)

    def measure(service: Service, *_: object) -> dict[str, list[float]]:
        seconds = 5.0 if service.name == "other" else 0.25
        return {signal: [seconds] for signal in ("trace", "log", "metric")}

    monkeypatch.setattr(latency, "_with_sdk_defaults", other_service)
    monkeypatch.setattr(latency, "_measure", measure)
    assert latency.main([]) == 0
    result = _result("latency", directory)
    _assert_complete(SECTIONS["latency"], result)
    ours, theirs = (result.find("log, p95", name) for name in ("chatscope", "SDK's defaults"))
    assert ours is not None
    assert theirs is not None
    assert (ours.value, theirs.value) == (0.25, 5.0)
