"""Groups of slow tests: each has its own ports and runs in one worker; groups run concurrently.

With `--dist loadgroup` (tests/harness/distribution.py) the tests of a group share one process, and
so one stack. Without workers the groups run one after another.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests import builds

TESTS: Final = Path(__file__).parent
_USUAL: Final = "stack"
SCALED: Final = "scaled"
# In this layer, the tests of a file share one service.
_SHARED_BY_FILE: Final = "hostile"


@dataclass(frozen=True)
class Group:
    """Files and folders below tests/, in execution order.

    `offset`: added to the default ports of its stack; below the ports of outgoing connections.
    `topology`: of its stack, as in stack/facts.py.
    """

    name: str
    offset: int
    paths: tuple[str, ...]
    topology: str = "single"


# The longest first: a free worker takes the next one, and finally the tests without a group.
GROUPS: Final = (
    # A browser drops its connections when a network interface appears or disappears, such as a
    # container's.
    Group(
        "containers",
        17_500,
        ("containers", "browser/test_page.py", "browser/test_page_markdown.py"),
    ),
    Group(
        "outages",
        14_700,
        (
            "chaos/test_stores_away.py",
            "chaos/test_queue_full.py",
            "chaos/test_tempo_killed.py",
            "chaos/test_loki_killed.py",
            "chaos/test_collector_away.py",
            "chaos/test_service_killed.py",
            "chaos/test_rolling_restart.py",
        ),
    ),
    Group("drill", 9_000, ("stack/test_drill.py", "browser/test_drill_path.py")),
    # The load runs first: recording rules need minutes to process it; dashboards show that at the
    # end.
    Group(
        "stack",
        12_000,
        (
            "stack/test_load.py",
            "stack/test_turns.py",
            "stack/test_links.py",
            "stack/test_metrics.py",
            "stack/test_pipeline.py",
            "stack/test_recipes.py",
            "stack/test_demo.py",
            "browser/test_chat.py",
            "browser/test_key.py",
            "browser/test_newcomer.py",
            "stack",
            "stack/test_rules.py",
            "stack/test_boards.py",
            "browser/test_boards.py",
            "browser/test_paths.py",
        ),
    ),
    Group(
        "alerts",
        13_400,
        (
            "stack/test_loki_rules.py",
            "stack/test_death.py",
            "stack/test_alertmanager.py",
            "stack/test_ledger.py",
            "stack/test_workers.py",
        ),
    ),
    Group("content", 15_700, ("stack/canaries", "chaos")),
    Group("commands", 15_000, ("stack/test_commands.py",)),
    Group(SCALED, 12_300, ("scaled",), topology="scaled"),
)
# Tests of the stack of one machine that also run, unchanged, on the scaled one. With
# TOPOLOGY=scaled all of them do.
ALSO_SCALED: Final = tuple(
    TESTS / path
    for path in (
        "stack/test_turns.py",
        "stack/test_metrics.py",
        "stack/test_pipeline.py",
        "stack/test_recipes.py",
        "stack/test_ledger.py",
        "chaos/test_collector_away.py",
    )
)
# A second scaled stack, with tail sampling, beside that of the group.
SAMPLED: Final = 17_800
# For commands in containers, which run in the group "containers".
COMMANDS_IN_CONTAINERS: Final = 17_100


def named(name: str) -> Group:
    """Return the group of that name."""
    return next(group for group in GROUPS if group.name == name)


def group_of(path: Path) -> Group | None:
    """Return the group of a test file, by the longest path that contains it."""
    found = _place(path)
    return GROUPS[found[0]] if found else None


def of_users_of_the_stack(path: Path) -> Group:
    """Return the group of a file; without one, the group whose stack it shares."""
    return group_of(path) or named(_USUAL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of each group, and put the groups first, in their order.

    While native components are still being built, the groups go last instead.
    """
    without_group = (-1, 0) if builds.expected() else (len(GROUPS), 0)
    last = (len(GROUPS) - 1, 0)
    items.sort(
        key=lambda item: last if _stack_of(item) == SCALED else _place(item.path) or without_group
    )
    for item in items:
        uses_stack = "stack" in getattr(item, "fixturenames", ())
        if _stack_of(item) == SCALED:
            item.add_marker(pytest.mark.xdist_group(SCALED))
        elif group := of_users_of_the_stack(item.path) if uses_stack else group_of(item.path):
            item.add_marker(pytest.mark.xdist_group(group.name))
        elif item.path.is_relative_to(TESTS / _SHARED_BY_FILE):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, on a scaled stack, the tests of components that it replaces."""
    marker = item.get_closest_marker("one_machine")
    if marker and SCALED in (_stack_of(item), os.environ.get("TOPOLOGY")):
        pytest.skip(f"the scaled stack has another component: {marker.args[0]}")


def _stack_of(item: pytest.Item) -> str | None:
    """Return the group whose stack a test uses."""
    called = getattr(item, "callspec", None)
    found: str | None = called.params.get("stack") if called else None
    return found


def _place(path: Path) -> tuple[int, int] | None:
    """Return the group's index, and the file's position in the group."""
    if not path.is_relative_to(TESTS):
        return None
    named = {
        TESTS / name: (number, place)
        for number, group in enumerate(GROUPS)
        for place, name in enumerate(group.paths)
    }
    return next((named[each] for each in (path, *path.parents) if each in named), None)
