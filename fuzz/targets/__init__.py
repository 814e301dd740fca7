"""The targets, each beside those of similar parsers."""

from importlib import import_module
from typing import Final

from fuzz.target import Target

_MODULES: Final = ("requests", "providers", "http", "files", "telemetry", "backends")


def load() -> dict[str, Target]:
    """Import the targets and return them by name."""
    modules = [import_module(f"fuzz.targets.{name}") for name in _MODULES]
    return {target.name: target for module in modules for target in module.TARGETS}
