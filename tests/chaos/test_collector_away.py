"""The Collector hangs or dies under the service: answers go on, and nothing is lost."""

from tests.chaos.outages import away, hanging
from tests.chaos.turns import all_found, none_dropped, risen, tokens, turns
from tests.running import Stack, settled


def test_answers_go_on_while_the_collector_hangs_and_nothing_is_lost(stack: Stack) -> None:
    before = settled(lambda: tokens(stack))
    with hanging(stack, "collector"):
        given = turns(stack)
    all_found(stack, given)
    risen(stack, before, given)
    none_dropped(stack)


def test_answers_go_on_while_the_collector_is_dead(stack: Stack) -> None:
    """What it had taken waits on its disk, and what it could not take in the service."""
    with away(stack, "collector"):
        given = turns(stack)
    all_found(stack, given)
    none_dropped(stack)
