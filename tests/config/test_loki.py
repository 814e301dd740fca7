"""Loki's configuration: limits, retention and labels."""

from pathlib import Path

from tests.config.conftest import Run
from tests.config.files import (
    AMPLE,
    LOKI,
    NOMINAL_BYTES,
    NOMINAL_PER_SECOND,
    broken_copy,
    literal_addresses,
    parsed,
    variables,
)

FLAGS = ("-config.expand-env=true", "-verify-config")


def test_retention_is_the_one_setting_and_really_deletes() -> None:
    config = parsed(LOKI)
    assert config["limits_config"]["retention_period"] == "${RETENTION}"
    assert config["compactor"]["retention_enabled"] is True
    assert config["compactor"]["delete_request_store"] == "filesystem"


def test_only_service_environment_and_kind_become_labels() -> None:
    limits = parsed(LOKI)["limits_config"]
    assert limits["otlp_config"] == {
        "resource_attributes": {
            "ignore_defaults": True,
            "attributes_config": [
                {
                    "action": "index_label",
                    "attributes": ["service.name", "deployment.environment.name"],
                }
            ],
        },
        "log_attributes": [{"action": "index_label", "attributes": ["chatscope.kind"]}],
    }
    assert limits["shard_streams"]["enabled"] is False


def test_one_stream_may_use_the_whole_rate() -> None:
    limits = parsed(LOKI)["limits_config"]
    assert limits["per_stream_rate_limit"] == f"{limits['ingestion_rate_mb']}MB"
    assert limits["per_stream_rate_limit_burst"] == f"{limits['ingestion_burst_size_mb']}MB"


def test_the_nominal_load_is_far_from_its_limits(stack_env: dict[str, str]) -> None:
    limits = parsed(LOKI)["limits_config"]
    nominal = NOMINAL_PER_SECOND * NOMINAL_BYTES
    assert limits["ingestion_rate_mb"] == "${LOKI_RATE_MB}"
    rate = int(stack_env["LOKI_RATE_MB"])
    assert rate * 2**20 >= AMPLE * nominal
    assert limits["ingestion_burst_size_mb"] >= rate


def test_late_line_is_taken_and_found() -> None:
    """A line is accepted up to half of a chunk's maximum age behind the newest of its stream."""
    loki = parsed(LOKI)
    assert loki["ingester"]["max_chunk_age"] == "48h"
    assert loki["querier"]["query_ingesters_within"] == "0s"


def test_nothing_is_reported_to_its_makers() -> None:
    assert parsed(LOKI)["analytics"]["reporting_enabled"] is False


def test_every_variable_is_a_fact_of_the_stack(stack_env: dict[str, str]) -> None:
    # start.sh reads it from a file.
    assert variables(LOKI) - {"LOKI_PASSWORD"} <= set(stack_env)
    assert "export LOKI_PASSWORD\n" in LOKI.with_name("start.sh").read_text()


def test_no_address_or_port_is_spelled_out() -> None:
    assert literal_addresses(LOKI) == []


def test_loki_accepts_it(run: Run) -> None:
    judged = run("loki", f"-config.file={LOKI}", *FLAGS)
    assert judged.returncode == 0, judged.stderr


def test_loki_refuses_an_unknown_key(run: Run, tmp_path: Path) -> None:
    broken = broken_copy(LOKI, tmp_path, "retention_period:", "retention_time:")
    judged = run("loki", f"-config.file={broken}", *FLAGS)
    assert judged.returncode != 0
    assert "retention_time" in judged.stderr
