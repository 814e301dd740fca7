"""The Collector hangs or dies under the service: responses continue, and nothing is lost."""

import time

from dashboards.others import SPAN_CALLS
from stack.waiting import poll_until
from tests.chaos.outages import away, hanging, stopped
from tests.chaos.turns import all_found, none_dropped, risen, tokens, turns
from tests.running import PATIENCE_SECONDS, Stack, settled
from tests.stack.turns import MODEL, http_turn


def test_responses_continue_while_the_collector_hangs_and_nothing_is_lost(stack: Stack) -> None:
    before = settled(lambda: tokens(stack))
    with hanging(stack, "collector"):
        given = turns(stack)
    all_found(stack, given)
    risen(stack, before, given)
    none_dropped(stack)


def test_responses_continue_while_the_collector_is_dead(stack: Stack) -> None:
    """Accepted items are in its queue on disk, the others in the service's spool."""
    with away(stack, "collector"):
        given = turns(stack)
    all_found(stack, given)
    none_dropped(stack)


def test_span_metrics_keep_their_identity_over_a_restart_of_the_collector(stack: Stack) -> None:
    """After the restart it continues the previous series."""

    def series(since: float = 0.0) -> set[frozenset[tuple[str, str]]]:
        """Return the labels of the series with a sample since then."""
        of_turn = f'service_name="chatscope", span_name="chat {MODEL}"'
        query = f"timestamp({SPAN_CALLS.prometheus}{{{of_turn}}})"
        found = stack.backends.prometheus(query)
        return {frozenset(each.labels.items()) for each in found if each.value > since}

    http_turn(stack.facts)
    before = poll_until(series, "span metrics in Prometheus", PATIENCE_SECONDS)
    with stopped(stack, "collector"):
        restarted = time.time()
    http_turn(stack.facts)
    after = poll_until(lambda: series(restarted), "samples after the restart", PATIENCE_SECONDS)
    assert after <= before
