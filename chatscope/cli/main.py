"""The commands: each module of `COMMANDS` adds its arguments and runs."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final, Protocol

from chatscope.cli import export
from chatscope.cli.errors import CommandError


class Command(Protocol):
    """A module that is a command."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command."""

    def run(self, arguments: argparse.Namespace) -> None:
        """Run it. Raise CommandError."""


COMMANDS: Final[tuple[Command, ...]] = (export,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 1 if it failed, 2 for invalid arguments."""
    parser = argparse.ArgumentParser("chatscope", description="Tools for recorded conversations.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = commands.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    chosen = parser.parse_args(arguments)
    try:
        chosen.run(chosen)
        sys.stdout.flush()
    except CommandError as error:
        print(f"chatscope: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader, such as `head`, has ended; the interpreter would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
