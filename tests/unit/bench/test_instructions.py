"""Comparison of instruction counts with committed figures, and the search for a commit."""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from bench.instructions import __main__ as command
from bench.instructions import figures, guard, history
from bench.instructions.counting import CountingError, counts_in, of_repetition
from bench.instructions.figures import Change, Figures
from bench.instructions.workloads import WORKLOADS

_LOG: Final = """\
==7== Cachegrind, a cache and branch-prediction profiler
==7== Command: python workloads.py
==8== I   refs:      1,000
==9==
==9== I   refs:      31,000
==7== I   refs:      40
"""


def _figures(instructions: Mapping[str, int], **changed: str) -> Figures:
    packages = {"uvicorn": changed.pop("uvicorn", "1.0")}
    return Figures(
        **{"python": "3.11.7", "machine": "x86_64", **changed},
        packages=packages,
        instructions={"python": 1_000, **instructions},
    )


def test_count_of_a_repetition_is_the_difference_between_two_processes() -> None:
    counts = counts_in(_LOG)
    assert counts == {8: 1_000, 9: 31_000, 7: 40}
    assert of_repetition({"span": {"before": 8, "after": 9, "times": 300}}, counts) == {"span": 100}


def test_process_without_a_count_is_an_error() -> None:
    with pytest.raises(CountingError, match="no count of process 5"):
        of_repetition({"span": {"before": 5, "after": 9, "times": 300}}, counts_in(_LOG))


@pytest.mark.parametrize(("after", "outside"), [(94, True), (95, False), (105, False), (106, True)])
def test_five_percent_more_or_fewer_are_accepted(after: int, outside: bool) -> None:
    assert figures.is_outside(100, after) is outside
    found = figures.changes(_figures({"span": 100}), _figures({"span": after}))
    assert bool(found) is outside


def test_changes_have_both_counts_and_the_largest_is_first() -> None:
    before = _figures({"span": 1_000, "chunk": 2_000, "request": 3_000})
    found = figures.changes(before, _figures({"span": 1_100, "chunk": 1_000, "request": 3_001}))
    assert [str(each) for each in found] == [
        "chunk: 1,000 instructions, 50.0% fewer than the committed 2,000",
        "span: 1,100 instructions, 10.0% more than the committed 1,000",
    ]


def test_workload_without_a_figure_is_a_change() -> None:
    [found] = figures.changes(_figures({}), _figures({"span": 100}))
    assert found == Change("span", None, 100)
    assert "there is no committed figure" in str(found)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            _figures({}, python="3.12.1"),
            "the figures are those of Python 3.11.7 on x86_64; this is",
        ),
        (_figures({}, machine="aarch64"), "this is Python 3.11.7 on aarch64"),
        (_figures({"python": 1_011}), "another build of Python 3.11.7 on x86_64: code that is not"),
    ],
)
def test_counts_of_another_interpreter_are_not_compared(found: Figures, reason: str) -> None:
    assert reason in str(figures.why_not_comparable(_figures({}), found))


def test_counts_of_other_packages_are_compared_and_the_packages_are_named() -> None:
    before, found = _figures({}), _figures({"python": 1_009}, uvicorn="1.1")
    assert figures.why_not_comparable(before, found) is None
    assert figures.changed_packages(before, found) == ["uvicorn 1.0 → 1.1"]


def test_written_figures_are_read_again(tmp_path: Path) -> None:
    written = figures.here({"span": 100})
    figures.save(written, tmp_path / "figures.json")
    assert figures.load(tmp_path / "figures.json") == written
    assert "opentelemetry-sdk" in written.packages


def test_each_workload_has_a_committed_figure() -> None:
    assert sorted(figures.load().instructions) == sorted(WORKLOADS)


def test_failure_names_counts_packages_commit_and_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "commit_of", lambda name, **_: f"abc123 (Slow {name} down)")
    before, after = _figures({"span": 1_000}), _figures({"span": 1_100}, uvicorn="1.1")
    text = guard.explain(before, after)
    assert text is not None
    for part in (
        "span: 1,100 instructions, 10.0% more than the committed 1,000",
        "uvicorn 1.0 → 1.1",
        "span was changed by abc123 (Slow span down).",
        "python -m bench.instructions --find NAME",
        "python -m bench.instructions --write",
    ):
        assert part in text
    assert guard.explain(before, before) is None


def test_lower_counts_are_noted_and_are_no_failure() -> None:
    before, after = _figures({"span": 1_000, "chunk": 100}), _figures({"span": 900, "chunk": 96})
    assert guard.explain(before, after) is None
    noted = guard.note(before, after)
    assert noted == (
        "span: 900 instructions, 10.0% fewer than the committed 1,000. "
        "python -m bench.instructions --write keeps what was gained."
    )
    assert guard.note(before, before) is None


# -- the search for a commit

Commit = Callable[[str], str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository without commits."""
    _git(tmp_path, "init", "--quiet", "root")
    return tmp_path / "root"


@pytest.fixture
def commit(root: Path) -> Commit:
    def make(cost: str) -> str:
        (root / "cost").write_text(cost)
        (root / "figures.json").touch()
        _git(root, "add", ".")
        name = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
        _git(root, *name, "commit", "--quiet", "--message", f"Cost {cost}", "--allow-empty")
        return _git(root, "log", "-1", "--format=%h (%s)")

    return make


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=directory, check=True, capture_output=True, text=True
    ).stdout.strip()


def _is_outside(tree: Path) -> bool:
    cost = (tree / "cost").read_text()
    if cost.startswith("broken"):
        raise CountingError("the workloads failed")
    return float(cost) > 105


def _find(root: Path, **options: float) -> str:
    return history.find(_is_outside, root, root / "figures.json", **options)


@pytest.mark.parametrize("place", range(1, 6))
def test_commit_that_changed_the_count_is_found(root: Path, commit: Commit, place: int) -> None:
    costs = ["100", *("101" for _ in range(1, place)), "110", *("109" for _ in range(place, 5))]
    made = [commit(cost) for cost in costs]
    assert _find(root) == made[place]


def test_commit_that_cannot_be_measured_is_passed_over(root: Path, commit: Commit) -> None:
    commit("100")
    commit("broken 1")
    commit("101")
    expected = commit("110")
    commit("111")
    assert _find(root) == expected


def test_commits_before_that_cannot_be_measured_are_mentioned(root: Path, commit: Commit) -> None:
    commit("100")
    commit("broken 1")
    expected = commit("110")
    assert _find(root) == f"{expected}, or one before it that cannot be measured"


def test_uncommitted_change_is_no_commit(root: Path, commit: Commit) -> None:
    commit("100")
    commit("101")
    (root / "cost").write_text("200")
    assert _find(root).startswith("uncommitted changes")


def test_count_that_was_outside_at_its_figures_blames_no_commit(root: Path, commit: Commit) -> None:
    first = commit("110")
    commit("111")
    with pytest.raises(history.HistoryError, match="which wrote the figures") as raised:
        _find(root)
    assert first in str(raised.value)


def test_end_of_a_shallow_clone_is_named(tmp_path: Path, root: Path, commit: Commit) -> None:
    commit("100")
    commit("110")
    commit("111")
    _git(tmp_path, "clone", "--quiet", "--depth", "2", f"file://{root}", "clone")
    with pytest.raises(history.HistoryError, match="where the history of this clone ends"):
        _find(tmp_path / "clone")


def test_directory_without_history_is_named(tmp_path: Path, root: Path) -> None:
    with pytest.raises(history.HistoryError, match="git log: "):
        _find(root)
    (tmp_path / "plain").mkdir()
    with pytest.raises(history.HistoryError, match="not a git repository"):
        _find(tmp_path / "plain")


def test_figures_that_are_not_committed_are_named(root: Path, commit: Commit) -> None:
    commit("100")
    with pytest.raises(history.HistoryError, match="the figures are not committed"):
        history.find(_is_outside, root, root / "other.json")


def test_search_that_takes_too_long_names_the_range(root: Path, commit: Commit) -> None:
    for cost in ("100", "101", "110", "111"):
        commit(cost)
    first, last = _git(root, "rev-list", "--max-parents=0", "HEAD"), _git(root, "rev-parse", "HEAD")
    with pytest.raises(history.HistoryError, match=f"{first}..{last}"):
        _find(root, seconds=-1.0)


def test_no_work_tree_is_left(root: Path, commit: Commit) -> None:
    commit("100")
    commit("110")
    _find(root)
    assert len(_git(root, "worktree", "list").splitlines()) == 1
    assert _git(root, "for-each-ref", "refs/bisect") == ""


# -- the command


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of figures that the command uses."""
    path = tmp_path / "figures.json"
    figures.save(figures.here({"python": 1_000, "span": 1_000}), path)
    monkeypatch.setattr(figures, "load", partial(figures.load, path))
    monkeypatch.setattr(figures, "save", partial(figures.save, path=path))
    return path


def _counted(monkeypatch: pytest.MonkeyPatch, **instructions: int) -> None:
    monkeypatch.setattr(command, "count", lambda: {"python": 1_000, **instructions})


@pytest.mark.parametrize(("span", "code"), [(1_050, 0), (1_051, 1), (949, 1)])
def test_command_shows_both_counts_and_fails_outside_of_the_room(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    span: int,
    code: int,
) -> None:
    _counted(monkeypatch, span=span)
    assert command.main([]) == code
    row = next(line for line in capsys.readouterr().out.splitlines() if "span" in line)
    assert re.findall(r"[\d,.+%-]+", row) == ["1,000", f"{span:,}", f"{span / 1_000 - 1:+.1%}"]


def test_command_writes_the_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _counted(monkeypatch, span=2_000)
    assert command.main(["--write"]) == 0
    assert figures.load().instructions == {"python": 1_000, "span": 2_000}
    assert command.main([]) == 0


def test_command_names_the_commit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard, "commit_of", lambda name: f"abc123 (Slow {name} down)")
    assert command.main(["--find", "chunk"]) == 0
    assert capsys.readouterr().out == "chunk: abc123 (Slow chunk down)\n"


def test_command_without_valgrind_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert command.main([]) == 2
    assert capsys.readouterr().out == "valgrind is not installed\n"
