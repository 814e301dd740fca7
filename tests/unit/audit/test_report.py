"""The summary of an audit: never green for a component that was not checked."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from audit.report import (
    FOUND,
    INCOMPLETE,
    Acceptance,
    Finding,
    Result,
    newest_of,
    read_accepted,
    report,
)

_NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
_FINDING = Finding("GO-1", ("CVE-1",), "example.org/http", "1.0.0", "1.0.1")
_ACCEPTED = Acceptance(("tempo",), ("CVE-1",), date(2026, 11, 29), "Not reachable.")


def _code(*results: Result, accepted: tuple[Acceptance, ...] = ()) -> int:
    return report(results, accepted, _NOW, 30).code


def test_nothing_known_is_success() -> None:
    made = report([Result("tempo", "db")], [], _NOW, 30)
    assert (made.lines, made.code) == (["tempo: nothing known (db)"], 0)


def test_finding_is_reported_with_its_fix() -> None:
    made = report([Result("tempo", "db", (_FINDING,))], [], _NOW, 30)
    assert made.code == FOUND
    assert made.lines == [
        "tempo: 1 known vulnerability (db)",
        "  example.org/http 1.0.0, fixed in 1.0.1: GO-1 (CVE-1)",
    ]


def test_component_that_was_not_checked_is_never_success() -> None:
    assert _code(Result("tempo", "db", problem="no network")) == INCOMPLETE
    assert _code(Result("loki", "db"), Result("tempo", "", problem="x")) == INCOMPLETE


def test_findings_of_an_incomplete_check_are_shown() -> None:
    made = report([Result("tempo", "db", (_FINDING,), "skipped y")], [], _NOW, 30)
    assert made.code == FOUND | INCOMPLETE
    assert any("GO-1" in line for line in made.lines)


@pytest.mark.parametrize(("days", "code"), [(29.9, 0), (30.1, INCOMPLETE)])
def test_old_database_is_never_success(days: float, code: int) -> None:
    newest = _NOW - timedelta(days=days)
    made = report([Result("tempo", "db", newest=newest)], [], _NOW, 30)
    assert made.code == code
    assert any("OLD DATABASE" in line for line in made.lines) == bool(code)


def test_old_database_and_finding_are_both_in_the_code() -> None:
    newest = _NOW - timedelta(days=31)
    assert _code(Result("tempo", "db", (_FINDING,), newest=newest)) == FOUND | INCOMPLETE


def test_accepted_finding_is_shown_with_its_reason() -> None:
    made = report([Result("tempo", "db", (_FINDING,))], [_ACCEPTED], _NOW, 30)
    assert made.code == 0
    assert made.lines[1] == "  accepted, GO-1: Not reachable. (until 2026-11-29)"


def test_acceptance_ends_and_holds_for_its_component_only() -> None:
    ended = Acceptance(("tempo",), ("CVE-1",), date(2026, 11, 28), "Not reachable.")
    assert _code(Result("tempo", "db", (_FINDING,)), accepted=(ended,)) == FOUND
    assert _code(Result("loki", "db", (_FINDING,)), accepted=(_ACCEPTED,)) == FOUND


def test_newest_of_ignores_missing_times() -> None:
    assert newest_of(["", "0001-01-01T00:00:00Z"]) is None
    times = ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00"]
    assert newest_of(times) == datetime(2026, 2, 1, tzinfo=UTC)


def test_accepted_file_is_valid_and_each_is_explained_on_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "versions.md").read_text()
    for entry in read_accepted():
        assert entry.components
        assert len(entry.reason) > 20
        for name in entry.advisories:
            assert name in page
