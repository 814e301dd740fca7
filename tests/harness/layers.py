"""The layers of tests, each with marker, time limit and order."""

from dataclasses import dataclass

import pytest

from tests import builds


@dataclass(frozen=True)
class Layer:
    """One directory of tests/."""

    name: str
    # Time limit of one test in seconds, including its fixtures.
    time_limit: float
    # Mostly waits for other processes; the others use the processor.
    slow: bool = False


LAYERS = {
    layer.name: layer
    for layer in (
        Layer("unit", 180),
        Layer("config", 180),
        Layer("delivery", 240),
        Layer("hostile", 240),
        Layer("clients", 240),
        Layer("stack", 600, slow=True),
        Layer("chaos", 600, slow=True),
        Layer("scaled", 600, slow=True),
        Layer("containers", 600, slow=True),
        Layer("browser", 600, slow=True),
    )
}
_UNKNOWN = Layer("other", 180)


def layer_of(nodeid: str) -> Layer:
    """Return the layer of a test, from its node ID: `tests/unit/test_main.py::test_x`."""
    directory = nodeid.removeprefix("tests/").partition("/")[0]
    return LAYERS.get(directory, _UNKNOWN)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with its layer and time limit, and put the slow layers first.

    Slow tests wait more than they compute: they start first, and the others use the remaining time.
    While native components are still being built, the tests that need one go last instead.
    """
    for item in items:
        layer = layer_of(item.nodeid)
        if layer.slow:
            item.add_marker(layer.name)
        if not item.get_closest_marker("timeout") and config.getoption("timeout") is None:
            item.add_marker(pytest.mark.timeout(layer.time_limit))
    items.sort(key=_waits_for_build if builds.expected() else _is_fast)


def _is_fast(item: pytest.Item) -> bool:
    return not layer_of(item.nodeid).slow


def _waits_for_build(item: pytest.Item) -> bool:
    return layer_of(item.nodeid).slow or "binary" in getattr(item, "fixturenames", ())
