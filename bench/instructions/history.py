"""Finds the commit that changed a count, by `git bisect` in a separate work tree."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.instructions.counting import CountingError
from bench.instructions.figures import FILE
from stack.facts import ROOT

# What git says when it cannot decide, and its exit code then.
_ONLY_SKIPPED: Final = "There are only 'skip'ped commits left"
_UNDECIDED: Final = 2

# Whether a count is outside of the room in a work tree. Raises CountingError.
Judge = Callable[[Path], bool]


class HistoryError(RuntimeError):
    """The commit cannot be found; the text contains the reason."""


def find(judge: Judge, root: Path = ROOT, file: Path = FILE, *, seconds: float = 3600.0) -> str:
    """Return the commit since which a count is outside of the room, as text.

    It is looked for since the commit that wrote the committed figures. A commit that cannot be
    measured is passed over. Raises HistoryError, also if it is not found within `seconds`, and
    CountingError if HEAD cannot be measured.
    """
    deadline = time.monotonic() + seconds
    first, last = _written(root, file), _git(root, "rev-parse", "HEAD")
    with _work_tree(root) as tree:
        if not judge(tree):
            return "uncommitted changes or other packages, and no commit"
        _git(tree, "checkout", "--quiet", first)
        if judge(tree):
            is_shallow = _git(root, "rev-parse", "--is-shallow-repository") == "true"
            why = (
                "where the history of this clone ends" if is_shallow else "which wrote the figures"
            )
            raise HistoryError(f"it is outside at {_describe(root, first)}, too, {why}")
        output = _git(tree, "bisect", "start", last, first)
        while not ("is the first bad commit" in output or output.startswith(_ONLY_SKIPPED)):
            if time.monotonic() > deadline:
                raise HistoryError(f"it was not found within {seconds:g} s in {first}..{last}")
            output = _step(tree, judge)
        found = _describe(root, _git(tree, "rev-parse", "refs/bisect/bad"))
        skipped = output.startswith(_ONLY_SKIPPED)
        return f"{found}, or one before it that cannot be measured" if skipped else found


def _step(tree: Path, judge: Judge) -> str:
    """Measure a commit, and go to the next; return what git says."""
    try:
        verdict = "bad" if judge(tree) else "good"
    except CountingError:
        verdict = "skip"
    return _git(tree, "bisect", verdict)


def _written(root: Path, file: Path) -> str:
    """Return the commit that wrote the committed figures."""
    commit = _git(root, "log", "-1", "--format=%H", "--", str(file))
    if not commit:
        raise HistoryError("the figures are not committed")
    return commit


@contextmanager
def _work_tree(root: Path) -> Iterator[Path]:
    """Check HEAD out into a temporary directory."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        _git(root, "worktree", "add", "--quiet", "--detach", str(tree), "HEAD")
        try:
            yield tree
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def _describe(root: Path, commit: str) -> str:
    return _git(root, "log", "-1", "--format=%h (%s)", commit)


def _git(directory: Path, *arguments: str) -> str:
    """Return what git says. Raise HistoryError if it fails."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=directory,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        raise HistoryError("git is not installed") from None
    if done.returncode not in (0, _UNDECIDED):
        raise HistoryError(f"git {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
