"""How often telemetry warns of the same thing."""

import pytest

from app.telemetry.guard import RateLimit


def test_one_event_of_a_kind_is_allowed_each_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("app.telemetry.guard.time.monotonic", lambda: now)
    limit = RateLimit()
    assert limit.allows("failing")
    now += 59.9
    assert not limit.allows("failing")
    assert limit.allows("refused")
    now += 0.1
    assert limit.allows("failing")
