"""Machine instructions of requests, chunks, spans and log records stay near their figures."""

import shutil

import pytest

from bench.instructions import figures, guard
from bench.instructions.counting import count


@pytest.mark.slow
# Half a minute of CPU; if it fails, as much for each step of the search for the commit.
@pytest.mark.timeout(2400)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_no_count_differs_from_its_figure_by_more_than_five_percent() -> None:
    committed, found = figures.load(), figures.here(count())
    if why := figures.why_not_comparable(committed, found):
        pytest.skip(why)
    if failure := guard.explain(committed, found):
        pytest.fail(failure, pytrace=False)
