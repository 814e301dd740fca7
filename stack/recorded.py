"""Stores the facts of the running stack in its state directory."""

import json
from collections.abc import Mapping
from pathlib import Path


def record(facts: Mapping[str, str]) -> None:
    """Store the facts of a stack that is being started."""
    path = _path(facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(facts), indent=1))


def recorded(facts: Mapping[str, str]) -> dict[str, str]:
    """Return the facts of the running stack, or the given ones if none runs."""
    try:
        text = _path(facts).read_text()
    except FileNotFoundError:
        return dict(facts)
    found: dict[str, str] = json.loads(text)
    return found


def forget(facts: Mapping[str, str]) -> None:
    """Remove the stored facts, once the stack is down."""
    _path(facts).unlink(missing_ok=True)


def _path(facts: Mapping[str, str]) -> Path:
    return Path(facts["STATE_DIR"]) / "run" / "facts.json"
