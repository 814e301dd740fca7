"""Runs commands of the README in the checkout, on separate ports."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stack import facts as stack_facts
from stack.facts import ROOT

NARROW = "60"
# Variables of the make that runs the tests: an inner make would print its directory.
_OF_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")


@dataclass(frozen=True)
class Shell:
    """A shell in the checkout, with separate ports."""

    environment: dict[str, str]

    @property
    def way(self) -> str:
        """docker or native."""
        return self.environment["RUN"]

    def untold(self) -> "Shell":
        """Return the same shell without RUN."""
        return Shell({name: text for name, text in self.environment.items() if name != "RUN"})

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run one line of the README, on these ports."""
        command = command.replace(":3000", f":{self.environment['APP_PORT']}")
        return subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def shell(
    way: str, offset: int, directory: Path, environment: Mapping[str, str]
) -> Iterator[Shell]:
    """Provide commands for a stack that runs this way, with its state in `directory`; stop it."""
    made = Shell(
        {
            **{name: text for name, text in os.environ.items() if name not in _OF_MAKE},
            **stack_facts.shifted(offset, {}),
            **environment,
            "RUN": way,
            "STATE_DIR": str(directory),
            # The user's own settings and stack must not be affected.
            "COMPOSE_DISABLE_ENV_FILE": "1",
            "COMPOSE_PROJECT_NAME": "",
            "COLUMNS": NARROW,
        }
    )
    try:
        yield made
    finally:
        made.run("make down")
