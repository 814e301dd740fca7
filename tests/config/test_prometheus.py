"""Prometheus's configuration, and the flags that it needs because it expands no variables."""

import json
import re
import shutil
from pathlib import Path

from stack import facts
from stack.native import NativeStack
from tests.config.conftest import Run
from tests.config.files import (
    COLLECTOR,
    COMPOSE,
    DOCKER_TARGETS,
    PROCESSES,
    PROMETHEUS,
    broken_copy,
    literal_addresses,
    parsed,
)
from tests.config.files import variables as variables_of


def laid_out(directory: Path, config: Path) -> Path:
    """Return the file in the layout of the running stack, beside its targets."""
    targets = [{"targets": ["127.0.0.1:1"], "labels": {"job": "loki"}}]
    for kind in ("targets", "alertmanagers"):
        (directory / kind).mkdir()
        (directory / kind / "stack.json").write_text(json.dumps(targets))
    (directory / "rules").symlink_to(PROMETHEUS.parent / "rules")
    if config.parent != directory:
        shutil.copy(config, directory)
    return directory / config.name


def test_it_is_started_with_the_flags_it_asks_for() -> None:
    asked = re.findall(r"^# +(--[^ ]+)$", PROMETHEUS.read_text(), re.MULTILINE)
    started = parsed(PROCESSES)["processes"]["prometheus"]["entrypoint"]
    assert "--storage.tsdb.retention.time=${RETENTION}" in asked
    assert set(asked) <= set(started)


def test_a_sample_may_have_waited_for_a_day() -> None:
    assert parsed(PROMETHEUS)["storage"]["tsdb"]["out_of_order_time_window"] == "24h"


def jobs(targets: Path) -> dict[str, list[str]]:
    """Return the addresses of each job in a file of targets."""
    groups = json.loads(targets.read_text())
    found = {group["labels"]["job"]: group["targets"] for group in groups}
    assert len(found) == len(groups)
    return found


def test_no_limit_refuses_a_series() -> None:
    text = PROMETHEUS.read_text()
    assert "_limit:" not in text


def test_stacks_own_parts_are_scraped_at_their_ports_in_containers() -> None:
    # There each component listens on its default port, and is addressed by its name.
    loaded = facts.load({})
    assert jobs(DOCKER_TARGETS) == {
        "collector": [f"collector:{loaded['COLLECTOR_METRICS_PORT']}"],
        "prometheus": [f"prometheus:{loaded['PROMETHEUS_PORT']}"],
        "loki": [f"gateway:{loaded['LOKI_PORT']}"],
        "tempo": [f"gateway:{loaded['TEMPO_PORT']}"],
        "alertmanager": [f"alertmanager:{loaded['ALERTMANAGER_PORT']}"],
    }


def test_native_way_scrapes_the_same_jobs_at_its_own_addresses(tmp_path: Path) -> None:
    loaded = facts.load({**facts.shifted(20_000, {}), "STATE_DIR": str(tmp_path)})
    NativeStack(loaded).prepare()
    prometheus = tmp_path / "run" / "prometheus"
    native = jobs(prometheus / "targets" / "stack.json")
    told = json.loads((prometheus / "alertmanagers" / "stack.json").read_text())
    assert [group["targets"] for group in told] == [native["alertmanager"]]
    assert set(native) == set(jobs(DOCKER_TARGETS))
    assert native["alertmanager"] == [f"127.0.0.1:{loaded['ALERTMANAGER_PORT']}"]
    assert {address.partition(":")[0] for [address] in native.values()} == {"127.0.0.1"}


def test_alerts_are_sent_to_alertmanager_in_containers() -> None:
    [told] = json.loads(
        DOCKER_TARGETS.parent.with_name("alertmanagers").joinpath("docker.json").read_text()
    )
    assert told["targets"] == jobs(DOCKER_TARGETS)["alertmanager"]


def test_lookback_hides_dead_processes_but_not_minutely_exports() -> None:
    [flag] = re.findall(r"--query.lookback-delta=(\d+)s", PROCESSES.read_text())
    assert f"--query.lookback-delta={flag}s" in parsed(COMPOSE)["services"]["prometheus"]["command"]
    for_those_who_scrape = parsed(COLLECTOR)["exporters"]["prometheus"]["metric_expiration"]
    assert for_those_who_scrape == f"{flag}s"
    assert 60 < int(flag) < 120


def test_rules_are_loaded_and_their_tests_are_not() -> None:
    assert parsed(PROMETHEUS)["rule_files"] == ["rules/*.rules.yaml"]


def test_every_variable_is_a_fact_of_the_stack(stack_env: dict[str, str]) -> None:
    assert variables_of(PROMETHEUS) <= set(stack_env)


def test_no_address_or_port_is_spelled_out() -> None:
    assert literal_addresses(PROMETHEUS) == []


def test_prometheus_accepts_it(run: Run, tmp_path: Path) -> None:
    judged = run("promtool", "check", "config", laid_out(tmp_path, PROMETHEUS))
    assert judged.returncode == 0, judged.stderr
    assert "WARNING" not in judged.stdout + judged.stderr


def test_prometheus_refuses_an_unknown_key(run: Run, tmp_path: Path) -> None:
    broken = broken_copy(PROMETHEUS, tmp_path, "max_exemplars:", "exemplars_max:")
    judged = run("promtool", "check", "config", laid_out(tmp_path, broken))
    assert judged.returncode != 0
    assert "exemplars_max" in judged.stdout + judged.stderr
