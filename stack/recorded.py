"""The facts that a running stack was started with, kept beside what it stores."""

import json
from collections.abc import Mapping
from pathlib import Path


def record(facts: Mapping[str, str]) -> None:
    """Keeps the facts of the stack that is being started."""
    path = _path(facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(facts), indent=1))


def recorded(facts: Mapping[str, str]) -> dict[str, str]:
    """The facts that the running stack was started with, else those given."""
    try:
        text = _path(facts).read_text()
    except FileNotFoundError:
        return dict(facts)
    found: dict[str, str] = json.loads(text)
    return found


def forget(facts: Mapping[str, str]) -> None:
    """The stack is down."""
    _path(facts).unlink(missing_ok=True)


def _path(facts: Mapping[str, str]) -> Path:
    return Path(facts["STATE_DIR"]) / "run" / "facts.json"
