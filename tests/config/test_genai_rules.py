"""Recording rules that unify the older and the newer metrics of model calls."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from alerts.__main__ import FOLDER
from chatscope.names import (
    CLIENT_INFERENCE_DURATION,
    CLIENT_INPUT_TOKENS,
    OLDER_DURATION,
    OLDER_TOKENS,
)
from dashboards.others import CALL_SECONDS, CALL_TOKENS
from tests.config.conftest import Run

_NEWER: Final = CLIENT_INFERENCE_DURATION.prometheus
_OLDER: Final = OLDER_DURATION.prometheus
_A: Final = {
    "job": "shop",
    "instance": "a",
    "service_name": "shop",
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "gpt",
}
_CALLS: Final = f"{CALL_SECONDS.prometheus}_count"


def _series(name: str, labels: Mapping[str, str]) -> str:
    matchers = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{matchers}}}"


def _check(
    run: Run,
    directory: Path,
    given: Sequence[tuple[str, Mapping[str, str], str]],
    query: str,
    expected: list[tuple[str, float]],
) -> None:
    """Let promtool evaluate the rules over the series for ten minutes, then the query."""
    test: dict[str, Any] = {
        "interval": "15s",
        "input_series": [
            {"series": _series(name, labels), "values": values} for name, labels, values in given
        ],
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": "10m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in expected],
            }
        ],
    }
    content = {
        "rule_files": [str(FOLDER / "llm.rules.yaml")],
        "group_eval_order": ["genai", "llm", "llm-budget"],
        "evaluation_interval": "15s",
        "tests": [test],
    }
    path = directory / "genai.test.yaml"
    path.write_text(yaml.safe_dump(content))
    judged = run("promtool", "test", "rules", path)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_calls_by_either_name_are_counted(run: Run, tmp_path: Path) -> None:
    given = [
        (f"{_NEWER}_count", {**_A, "gen_ai_response_model": "gpt-1", "server_port": "1"}, "1x40"),
        (f"{_NEWER}_count", {**_A, "gen_ai_response_model": "gpt-2", "server_port": "1"}, "2x40"),
        (f"{_OLDER}_count", {**_A, "instance": "b", "server_address": "x"}, "4x40"),
    ]
    expected = [(_series(_CALLS, _A), 3.0), (_series(_CALLS, {**_A, "instance": "b"}), 4.0)]
    _check(run, tmp_path, given, _CALLS, expected)


def test_process_that_makes_both_names_is_counted_once(run: Run, tmp_path: Path) -> None:
    # One with another response model, whose labels alone would be another series.
    given = [
        (f"{_NEWER}_count", {**_A, "error_type": "timeout"}, "1x40"),
        (f"{_NEWER}_count", _A, "5x40"),
        (f"{_OLDER}_count", {**_A, "error_type": "timeout"}, "1x40"),
        (f"{_OLDER}_count", {**_A, "gen_ai_response_model": "gpt-1"}, "5x40"),
        # Another model, which only an older library records.
        (f"{_OLDER}_count", {**_A, "gen_ai_request_model": "other"}, "7x40"),
    ]
    _check(run, tmp_path, given, f"sum({_CALLS})", [("{}", 13.0)])


def test_operations_without_a_model_call_are_left_out(run: Run, tmp_path: Path) -> None:
    given = [
        (f"{_OLDER}_count", _A, "2x40"),
        (f"{_OLDER}_count", {**_A, "gen_ai_operation_name": "embeddings"}, "9x40"),
        (f"{_OLDER}_count", {**_A, "gen_ai_operation_name": "invoke_agent"}, "9x40"),
    ]
    _check(run, tmp_path, given, f"sum({_CALLS})", [("{}", 2.0)])


def test_tokens_have_the_same_types_by_either_name(run: Run, tmp_path: Path) -> None:
    older = {**_A, "instance": "b"}
    given = [
        (f"{CLIENT_INPUT_TOKENS.prometheus}_sum", _A, "100x40"),
        (f"{OLDER_TOKENS.prometheus}_sum", {**older, "gen_ai_token_type": "input"}, "30x40"),
        (f"{OLDER_TOKENS.prometheus}_sum", {**older, "gen_ai_token_type": "output"}, "5x40"),
    ]
    query = f"sum by (gen_ai_token_type) ({CALL_TOKENS.prometheus}_sum)"
    expected = [('{gen_ai_token_type="input"}', 130.0), ('{gen_ai_token_type="output"}', 5.0)]
    _check(run, tmp_path, given, query, expected)
