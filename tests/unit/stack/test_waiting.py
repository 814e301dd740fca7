"""poll_until: its result, its time limit and its error."""

from collections.abc import Iterator

import pytest

from stack.waiting import WaitError, poll_until


def _answers(*values: object) -> Iterator[object]:
    yield from values


def test_poll_until_returns_the_first_true_value() -> None:
    answers = _answers(None, [], "there")
    assert poll_until(lambda: next(answers), "a value", interval=0) == "there"


def test_error_on_the_way_counts_as_not_yet() -> None:
    answers = iter([0, 1])
    assert poll_until(lambda: 1 / next(answers), "a division", interval=0) == 1.0


def test_failure_names_what_was_awaited_and_the_last_value() -> None:
    with pytest.raises(WaitError, match=r"waited 0 s for the trace in Tempo;.* was \[\]$"):
        poll_until(list, "the trace in Tempo", within=0)


def test_failure_names_the_last_error() -> None:
    with pytest.raises(WaitError, match="the last error was ZeroDivisionError: division by zero"):
        poll_until(lambda: 1 / 0, "a number", within=0)


def test_error_that_cannot_mend_itself_ends_the_wait_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        poll_until(lambda: 1 / 0, "a number", within=3600, giving_up_on=(ZeroDivisionError,))
