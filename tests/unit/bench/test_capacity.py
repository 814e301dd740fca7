"""The arithmetic of docs/scaling.md, checked by hand and by a simulation."""

from dataclasses import replace

import pytest

from bench import capacity, results
from bench.capacity import (
    PAGE,
    RESPONSES_A_DAY,
    Assumptions,
    Costs,
    backlog,
    load_costs,
    plan,
    section,
    with_section,
)
from bench.simulation import Outage, rate_at, simulate

_COSTS = Costs(
    response_ms=10,
    cpu_ms={
        "spans": {"collector": 50, "tempo": 20, "prometheus": 5},
        "log records": {"collector": 40, "loki": 10},
        "samples": {"collector": 10, "prometheus": 2},
    },
    stored_bytes={"spans": 100, "log records": 50, "samples": 2},
    sent_bytes={"spans": 600, "log records": 500, "samples": 100},
    highest_rate={"spans": 10_000, "log records": 12_000, "samples": 50_000},
    commit="",
)
_GIVEN = Assumptions(spans=4, log_records=2, samples_a_second=100, peak=4, used=0.5)


def test_plan_is_what_a_calculation_by_hand_gives() -> None:
    found = plan(8_640_000, _COSTS, _GIVEN)  # 100 a second
    assert found.peak == pytest.approx(400)
    assert found.cores["service"] == pytest.approx(400 * 0.010 / 0.5)
    assert found.replicas == 8
    assert found.rates == pytest.approx({"spans": 1600, "log records": 800, "samples": 800})
    collector = (1600 * 0.05 + 800 * 0.04 + 800 * 0.01) / 1000 / 0.5
    assert found.cores["collector"] == pytest.approx(collector)
    assert found.cores["tempo"] == pytest.approx(1600 * 0.02 / 1000 / 0.5)
    assert found.cores["loki"] == pytest.approx(800 * 0.01 / 1000 / 0.5)
    assert found.cores["prometheus"] == pytest.approx((1600 * 5 + 800 * 2) / 1e6 / 0.5)
    day = 8_640_000 * (4 * 100 + 2 * 50) + 800 * 86_400 * 2
    assert found.disk_gb == pytest.approx(day * 15 / 1e9)
    assert found.sent_gb["log records"] == pytest.approx(8_640_000 * 2 * 500 / 1e9)
    machines = 8 + 1 + 1 + 1 + 1
    assert found.usd == pytest.approx(machines * 30 + found.disk_gb * 0.08)
    assert found.usd_with_objects == pytest.approx(machines * 30 + found.disk_gb * 0.023)


def test_cost_is_linear_beyond_whole_machines() -> None:
    small, large = (plan(number, _COSTS, _GIVEN) for number in (10**7, 10**8))
    for component, cores in small.cores.items():
        assert large.cores[component] == pytest.approx(10 * cores, rel=0.02), component


# -- the simulation


def test_simulated_day_has_the_mean_and_the_peak_of_the_plan() -> None:
    found = plan(8_640_000, _COSTS, _GIVEN)
    day = simulate(100, _GIVEN.peak, _GIVEN.spans, 10 * found.rates["spans"])
    assert day.items == pytest.approx(8_640_000 * 4, rel=0.02)
    assert max(rate_at(second, 100, 4) for second in range(0, 86_400, 60)) == pytest.approx(400)
    assert day.busiest_hour == pytest.approx(found.rates["spans"], rel=0.05)


def test_planned_cores_leave_no_queue_and_half_of_them_would() -> None:
    found = plan(8_640_000, _COSTS, _GIVEN)
    capacity_of_cores = found.cores["tempo"] / (_COSTS.cpu_ms["spans"]["tempo"] / 1e6)
    day = simulate(100, _GIVEN.peak, _GIVEN.spans, capacity_of_cores)
    assert day.longest_queue < found.rates["spans"]
    day = simulate(100, _GIVEN.peak, _GIVEN.spans, capacity_of_cores * 0.45)
    assert day.longest_queue > 60 * found.rates["spans"]


@pytest.mark.parametrize("minutes", [10, 60])
def test_backlog_of_an_outage_at_the_peak_is_the_simulated_one(minutes: int) -> None:
    found = plan(8_640_000, _COSTS, _GIVEN)
    rate = found.rates["spans"]
    length = minutes * 60
    expected = backlog(rate, 2 * rate, length)
    # The peak is at the first second of the day: the outage begins at once.
    day = simulate(100, _GIVEN.peak, _GIVEN.spans, 2 * rate, [Outage(0, length)])
    assert day.longest_queue == pytest.approx(expected.items, rel=0.06)
    # The rate falls meanwhile, so that it catches up a little earlier.
    assert 0.8 * expected.catch_up_seconds < day.catch_up_seconds < 1.05 * expected.catch_up_seconds


def test_backend_without_room_never_catches_up() -> None:
    with pytest.raises(ValueError, match="no more than"):
        backlog(100, 100, 60)


# -- the page


def test_page_has_the_table_of_the_committed_costs() -> None:
    page = PAGE.read_text()
    assert page == with_section(page, section(load_costs(), Assumptions()))


def test_page_names_the_assumptions() -> None:
    page = PAGE.read_text().partition("## Sizing")[2]
    given = Assumptions()
    for text in (
        f"{given.spans:g} spans and {given.log_records:g} log records",
        f"{given.peak:g} times the mean",
        f"{given.samples_a_second:g} samples a second",
        f"{given.used:.0%} of a core".replace("%", " %"),
        f"{given.retention_days} days",
        f"{given.core_usd:g} US dollars",
    ):
        assert text in page, text


def test_option_changes_an_assumption(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(["--retention-days", "30"]) == 0
    longer = section(load_costs(), replace(Assumptions(), retention_days=30))
    assert capsys.readouterr().out == f"{longer}\n"


def test_result_that_is_missing_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "load", lambda name: None)
    with pytest.raises(SystemExit):
        capacity.main(["--write"])
    assert "no result of python -m bench.cpu" in capsys.readouterr().err


def test_each_number_of_responses_has_a_column() -> None:
    head = section(_COSTS, _GIVEN).splitlines()[0]
    assert head.count("million") == len(RESPONSES_A_DAY)
