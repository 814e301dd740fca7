"""Trends that count as flat in a soak test, and others."""

from collections.abc import Callable
from typing import Final

import pytest

from bench.flatness import Bound, trend

_BOUND: Final = Bound(0.1, 16)


def _samples(value: Callable[[float], float]) -> list[tuple[float, float]]:
    """Return ten minutes of samples, one every 2 s."""
    return [(float(second), value(second)) for second in range(0, 602, 2)]


def test_constant_value_is_flat() -> None:
    found = trend(_samples(lambda _: 100.0), _BOUND)
    assert (found.before, found.after, found.hourly) == (100, 100, 0)
    assert found.is_flat


def test_growing_value_is_not_flat_and_its_slope_is_reported() -> None:
    found = trend(_samples(lambda second: 100 + second / 10), _BOUND)
    assert found.hourly == pytest.approx(360, rel=0.02)
    assert not found.is_flat


def test_growth_within_the_bound_is_flat() -> None:
    assert trend(_samples(lambda second: 100 + second / 60), _BOUND).is_flat


def test_the_bound_is_a_share_of_what_is_large() -> None:
    found = trend(_samples(lambda second: 1000 + second / 10), _BOUND)
    assert found.bound == pytest.approx(0.1 * found.before)
    assert found.is_flat


def test_growth_in_the_first_fifth_is_ignored() -> None:
    assert trend(_samples(lambda second: min(second, 119.0)), _BOUND).is_flat


def test_falling_value_is_flat() -> None:
    found = trend(_samples(lambda second: 1000 - second), _BOUND)
    assert found.hourly < 0
    assert found.is_flat


def test_a_few_outliers_are_no_trend() -> None:
    assert trend(_samples(lambda second: 900.0 if second % 10 == 0 else 100.0), _BOUND).is_flat


def test_a_step_that_stays_is_not_flat() -> None:
    assert not trend(_samples(lambda second: 100.0 if second < 400 else 120.0), _BOUND).is_flat


@pytest.mark.parametrize("samples", [[(0.0, 1.0)], [(0.0, 1.0), (1.0, 1.0)]])
def test_too_few_samples_are_refused(samples: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="too few"):
        trend(samples, _BOUND)
