"""Warnings of one kind are rare, and say how many were held back."""

import logging
from itertools import islice

import pytest

from chatscope.otlp.pipeline import _pauses
from chatscope.otlp.statistics import Warnings


def test_one_warning_of_a_kind_is_logged_each_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr("chatscope.otlp.statistics.time.monotonic", lambda: now)
    warnings = Warnings()

    with caplog.at_level(logging.WARNING):
        warnings.warn("failing", "first")
        now += 59.9
        warnings.warn("failing", "held back")
        warnings.warn("refused", "of another kind")
        now += 0.1
        warnings.warn("failing", "second")

    assert [record.getMessage() for record in caplog.records] == [
        "first",
        "of another kind",
        "second (1 similar warnings since the last one)",
    ]


def test_no_pause_between_retries_is_longer_than_five_seconds() -> None:
    assert 4.0 <= max(islice(_pauses(), 50)) <= 5.0
