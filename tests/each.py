"""One test for many cases of the same kind, which names every failing case."""

from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def for_each(cases: Mapping[str, T]) -> Callable[[Callable[[T], None]], Callable[[], None]]:
    """Turn a check of one case into a single test; the keys of `cases` are their names.

    For generated files: hundreds of parametrized cases take seconds to collect.
    """

    def decorate(check: Callable[[T], None]) -> Callable[[], None]:
        def test() -> None:
            check_each(cases, check)

        test.__name__ = check.__name__
        test.__qualname__ = check.__qualname__
        test.__module__ = check.__module__
        test.__doc__ = check.__doc__
        return test

    return decorate


def check_each(cases: Mapping[str, T], check: Callable[[T], None]) -> None:
    """Call `check` with each case, and fail with all failed assertions."""
    assert cases, "there are no cases"
    problems = []
    for name, case in cases.items():
        try:
            check(case)
        except AssertionError as error:
            problems.append(f"{name}: {error}")
    assert not problems, f"{len(problems)} of {len(cases)}:\n" + "\n".join(problems)
