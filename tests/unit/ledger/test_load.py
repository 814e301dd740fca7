"""The output of the load's process, however it ended."""

import pytest

from ledger.load import parse


@pytest.mark.parametrize("half", ["", "2", "2 ", "2 17", "2 1795463681514"])
def test_incomplete_line_of_a_killed_process_is_no_item(half: str) -> None:
    assert list(parse(["0 5\n", "1 7\n", half])) == [(0, 5), (1, 7)]
