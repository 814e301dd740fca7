"""The page of performance: written from results, honest about missed goals and missing figures."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from bench import cpu, performance
from bench.goals import GOALS
from bench.performance import NOT_MEASURED, PAGE, SECTIONS
from bench.plots import Bar, chart, number_text
from bench.results import Result, Row


def _result(*rows: Row, **missing: str) -> Result:
    return Result(
        command="python -m bench.cpu",
        date=datetime(2026, 11, 29, 12, tzinfo=UTC),
        rows=rows,
        rounds=3,
        python="3.11.7",
        cores=2,
        load=(0.5, 1.5),
        commit="abc",
        missing=missing,
    )


def _lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def _chunk(value: float) -> Result:
    return _result(Row.of(cpu.CHUNK, "chatscope", [value, value + 1, value - 1], "µs"))


def test_goal_that_is_missed_is_shown_as_missed() -> None:
    page = performance.files({"cpu": _chunk(21)})[PAGE]
    [line] = _lines(page, "| CPU of a relayed chunk, as fast")
    assert line.endswith("| ≤ 20 µs | 21.0 ± 1.00 µs | **no** | `bench.cpu` |")


def test_goal_that_is_reached_is_shown_as_reached() -> None:
    page = performance.files({"cpu": _chunk(20)})[PAGE]
    [line] = _lines(page, "| CPU of a relayed chunk, as fast")
    assert line.endswith("| yes | `bench.cpu` |")


def test_without_results_nothing_is_claimed() -> None:
    files = performance.files({})
    assert list(files) == [PAGE]
    rows = re.findall(r"^\| .*$", files[PAGE], re.MULTILINE)
    measured = [row for row in rows if NOT_MEASURED not in row]
    # The headings only.
    assert len(measured) == len(SECTIONS) + 1
    assert len(rows) == len(measured) + len(GOALS) + sum(len(s.variants) for s in SECTIONS.values())


def test_competitor_that_was_not_installed_shows_the_reason() -> None:
    result = _result(LiteLLM="no route\nto host | 10.0.0.1")
    page = performance.files({"cpu": result})[PAGE]
    [line, _] = _lines(page, "| LiteLLM ")
    assert f"| {NOT_MEASURED}: no route to host / 10.0.0.1 |" in line


def test_conditions_of_a_measurement_are_stated() -> None:
    page = performance.files({"cpu": _chunk(21)})[PAGE]
    line = _lines(page, "*Measured")[0]
    assert line == (
        "*Measured 2026-11-29 12:00 UTC by `python -m bench.cpu`, Python 3.11.7, 2 cores,"
        " load average 0.5 before and 1.5 after, commit abc.*"
    )


def test_every_chart_is_written_and_shown() -> None:
    files = performance.files({"cpu": _chunk(21)})
    shown = re.findall(r"\]\((images/[^)]+)\)", files[PAGE])
    assert [PAGE.parent / path for path in shown] == [path for path in files if path != PAGE]
    assert len(shown) == 1


def test_page_in_the_repository_has_the_current_explanations() -> None:
    """Everything but tables of figures, charts and conditions is compared."""

    def explanations(text: str) -> list[str]:
        skipped = ("|", "*Measured", "![")
        return [line for line in text.splitlines() if line and not line.startswith(skipped)]

    assert explanations(PAGE.read_text()) == explanations(performance.files({})[PAGE])


def test_page_in_the_repository_has_the_current_rows() -> None:
    """The names of goals, variants and figures are compared."""

    def names(text: str) -> list[str]:
        return [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]

    assert names(PAGE.read_text()) == names(performance.files({})[PAGE])


def test_bars_are_in_proportion() -> None:
    svg = chart("a <b>", [Bar("x", 10, 2), Bar("y & z", 5, 0, ours=True)])
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    widths = [float(rect.attrib["width"]) for rect in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.1)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["a <b>", "x", "10.0", "y & z", "5.00"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: 1234.5, "1,234"),
        (lambda: 99.95, "100.0"),
        (lambda: 123.4, "123"),
        (lambda: 9.876, "9.88"),
        (lambda: -3.0, "-3.00"),
    ],
)
def test_numbers_have_few_digits(make: Callable[[], float], text: str) -> None:
    assert number_text(make()) == text
