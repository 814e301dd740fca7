"""Groups of tests run concurrently: their files exist, and no two stacks share a port."""

from itertools import combinations

from bench.configurations import OFFSET
from stack import facts
from tests.chaos.test_queue_full import APART_FROM_BOTH
from tests.groups import COMMANDS_IN_CONTAINERS, GROUPS, SAMPLED, SCALED, TESTS, group_of
from tests.stack.collectors import BESIDE

# Port offsets of user stacks, of tests/config/test_overlays.py and of the benchmarks.
_OTHERS = {"a person's": 0, "overlays": 6_500, "benchmarks": 11_000, "benched stacks": OFFSET}
_SCALED = {SCALED, "sampled"}
# Ephemeral ports of outgoing connections start here.
_FIRST_OUTGOING = 32_768


def _offsets() -> dict[str, int]:
    own = {group.name: group.offset for group in GROUPS}
    beside = {f"beside {name}": own[name] + BESIDE for name in ("outages", "alerts", "content")}
    more = {
        "commands in containers": COMMANDS_IN_CONTAINERS,
        "sampled": SAMPLED,
        "the second beside outages": own["outages"] + APART_FROM_BOTH,
    }
    return {**_OTHERS, **own, **beside, **more}


def test_no_two_stacks_of_the_tests_share_a_port() -> None:
    scaled = {"TOPOLOGY": "scaled"}
    ports = {
        name: set(facts.shifted(offset, scaled if name in _SCALED else {}).values())
        for name, offset in _offsets().items()
    }
    shared = {
        pair: ports[pair[0]] & ports[pair[1]]
        for pair in combinations(ports, 2)
        if ports[pair[0]] & ports[pair[1]]
    }
    assert shared == {}
    assert max(int(port) for each in ports.values() for port in each) < _FIRST_OUTGOING


def test_each_path_of_a_group_is_there() -> None:
    assert [path for group in GROUPS for path in group.paths if not (TESTS / path).exists()] == []


def test_each_test_of_the_slow_layers_is_in_a_group() -> None:
    files = [
        path
        for layer in ("browser", "chaos", "containers", "scaled", "stack")
        for path in (TESTS / layer).glob("test_*.py")
    ]
    assert [path for path in files if not group_of(path)] == []
