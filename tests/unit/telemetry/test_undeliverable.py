"""When a batch that is refused is given up."""

from itertools import islice

import pytest

from app.telemetry.undeliverable import Trial, pauses


def test_no_pause_is_longer_than_five_seconds() -> None:
    assert 4.0 < max(islice(pauses(), 50)) <= 5.0


def test_batch_is_given_up_after_ten_refusals_in_half_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("app.telemetry.undeliverable.time.monotonic", lambda: now)
    accepted = refusals = 0
    trial = Trial(accepted, "UNAVAILABLE")
    while not trial.is_undeliverable(accepted):
        now = trial.due
        accepted += 1
        trial.refuse(accepted, "UNAVAILABLE")
        accepted += 1
        refusals += 1
    assert refusals == 10
    # Half a minute, and a fifth less for the random part of each pause.
    assert 24.0 <= now - 1000.0 <= 33.0
