"""The load for dashboards and rules contains every kind of response."""

from tests.stack.load import Load


def test_load_leads_to_answers_failures_and_refusals(load: Load) -> None:
    """Runs first: minutely recorded sums are then available when the last tests need them."""
    assert {"", "simulated_error", "request_too_large", "too_many_answers"} <= set(load.codes)
