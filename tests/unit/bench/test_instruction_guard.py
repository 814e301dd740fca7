"""Machine instructions of requests, chunks, spans and log records do not exceed their figures."""

import shutil
from collections.abc import Callable

import pytest

from bench.instructions import figures, guard
from bench.instructions.counting import count
from tests.harness.notes import NOTE


@pytest.mark.slow
# Half a minute of CPU; if it fails, as much for each step of the search for the commit.
@pytest.mark.timeout(2400)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_no_count_is_more_than_five_percent_above_its_figure(
    record_property: Callable[[str, object], None],
) -> None:
    committed, found = figures.load(), figures.here(count())
    if why := figures.why_not_comparable(committed, found):
        pytest.skip(why)
    if note := guard.note(committed, found):
        record_property(NOTE, note)
    if failure := guard.explain(committed, found):
        pytest.fail(failure, pytrace=False)
