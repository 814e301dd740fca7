"""The load that boards and rules are looked at with has every kind of answer in it."""

from tests.stack.load import Load


def test_load_leads_to_answers_failures_and_refusals(load: Load) -> None:
    """It comes first: what is summed up each minute is known when the last tests look at it."""
    assert {"", "simulated_error", "request_too_large", "too_many_answers"} <= set(load.codes)
