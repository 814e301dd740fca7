"""The benchmarks run, and measure what they say."""

from pathlib import Path

import pytest

from bench import cpu, overhead, paced, results
from bench.competitors.request_service import Figures
from bench.gateways import CHATSCOPE, CHATSCOPE_OFF
from bench.results import Result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the results of the user's own runs."""
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    return tmp_path


def _result(name: str, directory: Path) -> Result:
    result = results.load(name, directory)
    assert result is not None
    return result


def test_cpu_of_each_kind_of_response_is_measured(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "GATEWAYS", (CHATSCOPE, CHATSCOPE_OFF))
    assert cpu.main(["--rounds", "1", "--responses", "10"]) == 0
    result = _result("cpu", directory)
    for kind in cpu.UNITS:
        for variant in (CHATSCOPE.name, CHATSCOPE_OFF.name, cpu.ADDED):
            assert result.find(kind, variant) is not None


def test_run_of_some_variants_replaces_no_result(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "GATEWAYS", ())
    assert cpu.main(["--only", "LiteLLM"]) == 0
    assert list(directory.iterdir()) == []


def test_slow_chunks_and_durations_are_measured(directory: Path) -> None:
    assert paced.main(["--rounds", "1", "--seconds", "0.5"]) == 0
    result = _result("paced", directory)
    assert result.find(paced.CHUNK, paced.ADDED) is not None
    assert result.find(paced.P99, paced.RATIO) is not None


def test_variant_that_exports_nothing_stops_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "_measure", lambda *_: Figures(1, 1, 1))
    with pytest.raises(RuntimeError, match=r"^chatscope exported nothing$"):
        overhead.main(["--rounds", "1"])
