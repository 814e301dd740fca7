"""Results of benchmarks, their file, and the rows that compare variants."""

import json
from pathlib import Path

import pytest

from bench import cpu, overhead, paced, results
from bench.competitors.request_service import Figures
from bench.results import Recorder, Row


def test_row_has_the_median_and_the_range_of_the_rounds() -> None:
    row = Row.of("relayed chunk", "chatscope", [5.0, 1.0, 2.0], "µs")
    assert (row.value, row.spread) == (2.0, 4.0)


def test_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    row = Row.of("relayed chunk", "chatscope", [1.0], "µs")
    recorder = Recorder("cpu", ["--rounds", "1"], tmp_path)
    recorder.write([row], 1, {"LiteLLM": "no network"})
    result = results.load("cpu", tmp_path)
    assert result is not None
    assert result.command == "python -m bench.cpu --rounds 1"
    assert result.find("relayed chunk", "chatscope") == row
    assert result.find("relayed chunk", "LiteLLM") is None
    assert (result.rounds, result.missing) == (1, {"LiteLLM": "no network"})
    assert None not in (result.python, result.cores, result.load, result.commit)


def test_result_without_details_of_the_machine_is_read(tmp_path: Path) -> None:
    row = {"row": "until ready", "variant": "chatscope", "value": 0.5, "unit": "s", "spread": 0.1}
    text = json.dumps({"command": "…", "date": "2026-11-29T12:00:00+00:00", "rows": [row]})
    (tmp_path / "startup.json").write_text(text)
    result = results.load("startup", tmp_path)
    assert result is not None
    assert result.rows[0].value == 0.5


def test_benchmark_that_was_not_run_has_no_result(tmp_path: Path) -> None:
    assert results.load("cpu", tmp_path) is None


def test_share_of_telemetry_is_computed_within_each_round() -> None:
    # The second round ran on a machine that was ten times slower.
    on, off = [3.0, 30.0, 3.0], [2.0, 20.0, 2.0]
    found = {
        "chatscope": {cpu.CHUNK: on},
        "chatscope, telemetry off": {cpu.CHUNK: off},
        "LiteLLM": {cpu.CHUNK: [90.0, 900.0, 90.0]},
    }
    rows = {(row.row, row.variant): row for row in cpu.rows(found)}
    assert rows[cpu.CHUNK, cpu.ADDED] == Row.of(cpu.CHUNK, cpu.ADDED, [1.0, 10.0, 1.0], "µs")
    assert rows[cpu.CHUNK, "LiteLLM"].value == 90


def test_paced_durations_are_compared_within_each_round() -> None:
    figures = {paced.CHUNK: [50.0, 60.0, 70.0], paced.P99: [12.0, 100.0, 24.0]}
    without = {paced.CHUNK: [49.0, 58.0, 70.0], paced.P99: [10.0, 50.0, 20.0]}
    rows = paced.rows({"chatscope": figures, "chatscope, telemetry off": without})
    found = {(row.row, row.variant): row.value for row in rows}
    assert found[paced.CHUNK, paced.ADDED] == 1.0
    assert found[paced.P99, paced.RATIO] == pytest.approx(1.2)


def test_instrumentation_is_compared_with_stock_in_the_same_round() -> None:
    found = {
        "bare": [Figures(100, 100, 1), Figures(200, 200, 2)],
        "chatscope": [Figures(150, 140, 1.5), Figures(300, 280, 3)],
        "stock": [Figures(400, 300, 51), Figures(800, 600, 102)],
        "logfire": [],
    }
    rows = {(row.row, row.variant): row.value for row in overhead.rows(found)}
    assert rows[overhead.REQUEST, "chatscope"] == 75
    assert rows[overhead.CHUNK, "stock"] == 75
    assert rows[overhead.OF_STOCK, "chatscope"] == pytest.approx(1 / 6)
    assert {variant for _, variant in rows} == {"chatscope", "stock"}
