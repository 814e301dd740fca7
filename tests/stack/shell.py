"""A terminal in the checkout, in which commands of the README are run on ports of their own."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stack import facts as stack_facts
from stack.facts import ROOT

NARROW = "60"
# Of a make that runs the tests: a make inside of it would say which directory it enters.
_OF_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")


@dataclass(frozen=True)
class Shell:
    """A terminal in the checkout, with ports of its own."""

    environment: dict[str, str]

    @property
    def way(self) -> str:
        """docker or native."""
        return self.environment["RUN"]

    def untold(self) -> "Shell":
        """The same, where nobody has said the way."""
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
    """Commands for a stack that runs this way, with its state in the directory; stopped after."""
    made = Shell(
        {
            **{name: text for name, text in os.environ.items() if name not in _OF_MAKE},
            **stack_facts.shifted(offset, {}),
            **environment,
            "RUN": way,
            "STATE_DIR": str(directory),
            # A person's own values and stack are theirs.
            "COMPOSE_DISABLE_ENV_FILE": "1",
            "COMPOSE_PROJECT_NAME": "",
            "COLUMNS": NARROW,
        }
    )
    try:
        yield made
    finally:
        made.run("make down")
