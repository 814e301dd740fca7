"""Tempo's configuration: limits, retention, and protection against loss."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from stack.facts import ROOT
from tests.config.conftest import Run
from tests.config.files import (
    AMPLE,
    COLLECTOR,
    COMPOSE,
    NOMINAL_BYTES,
    NOMINAL_PER_SECOND,
    PROCESSES,
    PROMETHEUS,
    TEMPO,
    broken_copy,
    literal_addresses,
    parsed,
    seconds,
    variables,
)

_START = ROOT / "tempo" / "start.sh"
FLAGS = ("-config.expand-env=true", "-config.verify=true")


def test_retention_is_the_one_setting() -> None:
    assert parsed(TEMPO)["compactor"]["compaction"]["block_retention"] == "${RETENTION}"


def test_no_span_meets_an_ingester_that_starts_or_stops() -> None:
    """It would reject it with an error that the Collector does not retry."""
    lifecycler = parsed(TEMPO)["ingester"]["lifecycler"]
    assert min(seconds(lifecycler[name]) for name in ("join_after", "final_sleep")) >= 0.1


def test_live_traces_are_not_limited() -> None:
    ingestion = parsed(TEMPO)["overrides"]["defaults"]["ingestion"]
    assert ingestion["max_traces_per_user"] == 0


def test_the_nominal_load_is_far_from_its_limits(stack_env: dict[str, str]) -> None:
    ingestion = parsed(TEMPO)["overrides"]["defaults"]["ingestion"]
    nominal = NOMINAL_PER_SECOND * NOMINAL_BYTES
    assert ingestion["rate_limit_bytes"] == "${TEMPO_RATE_MB}000000"
    rate = int(stack_env["TEMPO_RATE_MB"]) * 1_000_000
    assert rate >= AMPLE * nominal
    assert ingestion["burst_size_bytes"] >= rate


def test_spans_are_on_disk_when_tempo_says_that_it_has_them() -> None:
    config = parsed(TEMPO)
    # The random part of the delay, and as much again for the time to receive the spans.
    answered = 0.8 * seconds(config["distributor"]["artificial_delay"])
    ingester = config["ingester"]
    # The flush just before the spans, the next one, and as long again for the writing.
    on_disk = seconds(ingester["trace_idle_period"]) + 3 * seconds(ingester["flush_check_period"])
    assert answered > on_disk


def test_spans_of_an_unfinished_trace_reach_the_disk_as_soon() -> None:
    assert seconds(parsed(TEMPO)["ingester"]["trace_idle_period"]) == 0


def test_tempo_takes_every_message_that_the_collector_makes() -> None:
    config = parsed(COLLECTOR)
    taken = config["receivers"]["otlp"]["protocols"]["grpc"]["max_recv_msg_size_mib"]
    in_front = config["exporters"]["otlp_grpc/tempo"]["sending_queue"]["batch"]["min_size"]
    receiver = parsed(TEMPO)["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]
    assert receiver["max_recv_msg_size_mib"] * 2**20 >= taken * 2**20 + in_front


def test_its_generator_serves_traceql_metrics_and_nothing_else() -> None:
    config = parsed(TEMPO)
    generator = config["overrides"]["defaults"]["metrics_generator"]
    assert generator == {"processors": ["local-blocks"]}
    assert "remote_write" not in config["metrics_generator"]["storage"]


def test_a_span_may_be_as_late_as_a_sample() -> None:
    window = parsed(PROMETHEUS)["storage"]["tsdb"]["out_of_order_time_window"]
    slack = parsed(TEMPO)["metrics_generator"]["metrics_ingestion_time_range_slack"]
    assert slack == window


def test_a_persons_own_exporter_settings_do_not_make_it_trace_itself_into_itself() -> None:
    tempo = parsed(PROCESSES)["processes"]["tempo"]
    assert tempo["environment"] == [
        "OTEL_TRACES_EXPORTER=",
        "OTEL_EXPORTER_OTLP_ENDPOINT=",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=",
    ]


def test_nothing_is_reported_to_its_makers() -> None:
    assert parsed(TEMPO)["usage_report"]["reporting_enabled"] is False


def test_every_variable_is_a_fact_of_the_stack(stack_env: dict[str, str]) -> None:
    assert variables(TEMPO) <= set(stack_env)


def test_no_address_or_port_is_spelled_out() -> None:
    assert literal_addresses(TEMPO) == []


def test_tempo_accepts_it_without_a_warning(run: Run) -> None:
    judged = run("tempo", f"-config.file={TEMPO}", *FLAGS)
    assert judged.returncode == 0, judged.stderr


def test_tempo_refuses_an_unknown_key(run: Run, tmp_path: Path) -> None:
    broken = broken_copy(TEMPO, tmp_path, "block_retention:", "block_lifetime:")
    judged = run("tempo", f"-config.file={broken}", *FLAGS)
    assert judged.returncode != 0
    assert "block_lifetime" in judged.stderr


def test_both_ways_to_run_start_tempo_by_the_script_that_repairs_its_wal() -> None:
    native = parsed(PROCESSES)["processes"]["tempo"]["entrypoint"]
    assert native[:3] == ["sh", "${REPO_DIR}/tempo/start.sh", "${TEMPO_BIN}"]
    service = parsed(COMPOSE)["services"]["tempo"]
    assert service["entrypoint"][1:] == ["sh", "/etc/tempo/start.sh", "/tempo"]
    assert service["entrypoint"][0] == service["environment"]["BUSYBOX"]


@pytest.mark.parametrize("shell", ["sh", "busybox"])
def test_only_incomplete_blocks_are_repaired(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    log, generator = (
        tmp_path / "tempo" / place for place in ("wal", "generator/traces/single-tenant")
    )
    whole = '{"format":"vParquet4","blockID":"whole"}'
    for place, name, meta in (
        (log, "whole", whole), (log, "empty", ""), (log, "cut", '{"format":"vPar'),
        (generator, "empty", ""),
    ):  # fmt: skip
        block = _block(place, name)
        (block / "0000000001").write_text("page")
        (block / "meta.json").write_text(meta)
    # Including the remains of a killed process.
    for socket in ("tempo.sock:3200", "tempo-otlp.sock"):
        (tmp_path / socket).touch()
    unwritten, removed = _block(log, "unwritten"), _block(log, "removed")
    (unwritten / "0000000001").touch()
    (unwritten / "meta.json").touch()
    (removed / "0000000001").write_text("page")

    busybox = shell == "busybox"
    done = subprocess.run(
        [program, *(["sh"] if busybox else []), _START, "/bin/echo", "--flag=a b"],
        # The container has no other program.
        env={
            "DATA_DIR": str(tmp_path),
            "SOCKETS_DIR": str(tmp_path),
            "TEMPO_PORT": "3200",
            **({"PATH": "", "BUSYBOX": program} if busybox else {}),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "--flag=a b\n"), done.stderr
    assert [line.split()[5].partition("+")[0] for line in done.stderr.splitlines()] == [
        "cut", "empty", "empty",
    ]  # fmt: skip
    assert (_block(log, "whole") / "meta.json").read_text() == whole
    assert (unwritten / "meta.json").read_text() == ""
    assert not (removed / "meta.json").exists()
    assert not list(tmp_path.glob("*.sock*"))
    for place, name in ((log, "cut"), (log, "empty"), (generator, "empty")):
        meta = json.loads((_block(place, name) / "meta.json").read_text())
        assert (meta["format"], meta["blockID"]) == ("vParquet4", name)
        assert meta["startTime"] < meta["endTime"]
        assert meta.get("replicationFactor") == (1 if place is generator else None)


def _block(place: Path, name: str) -> Path:
    block = place / f"{name}+single-tenant+vParquet4"
    block.mkdir(parents=True, exist_ok=True)
    return block
