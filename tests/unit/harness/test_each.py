"""One test for many cases fails with the names and reasons of all failures."""

import pytest

from tests.each import check_each, for_each


@for_each({"one": 1, "three": 3})
def test_decorated_check_is_one_test(number: int) -> None:
    assert number % 2


def test_every_case_that_fails_is_named_with_its_reason() -> None:
    def is_small(number: int) -> None:
        assert number < 3, f"{number} is not small"

    with pytest.raises(AssertionError) as error:
        check_each({"a": 1, "b": 3, "c": 4}, is_small)
    assert str(error.value).splitlines()[:3] == [
        "2 of 3:",
        "b: 3 is not small",
        *[line for line in str(error.value).splitlines() if line.startswith("assert 3")],
    ]


def test_no_cases_are_a_failure() -> None:
    with pytest.raises(AssertionError, match="there are no cases"):
        check_each({}, print)
