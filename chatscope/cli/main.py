"""The command `chatscope`. Without the extra `cli` it is `chatscope export` alone."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from chatscope.cli import export
from chatscope.cli.errors import CommandError
from chatscope.escaping import escape_controls

# What the extra installs, and what only its commands import.
_EXTRA = ("rich", "typer", "websockets")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 1 if it failed, 2 for invalid arguments."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(given)
        sys.stdout.flush()
    except CommandError as error:
        print(f"chatscope: {escape_controls(str(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader, such as `head`, has ended; the interpreter would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _run(arguments: Sequence[str]) -> int:
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if not missing:
        from chatscope.cli.commands import run  # noqa: PLC0415 - it imports what the extra installs

        return run(arguments)
    if arguments[:1] == [export.NAME]:
        run_export(arguments[1:])
        return 0
    raise CommandError(
        f"its commands, except for {export.NAME}, need {', '.join(missing)}: "
        "pip install 'chatscope[cli]'"
    )


def run_export(arguments: Sequence[str]) -> None:
    """Run `chatscope export`, which needs no extra. Raise CommandError."""
    parser = argparse.ArgumentParser(f"chatscope {export.NAME}", description=export.HELP)
    export.add_arguments(parser)
    export.run(parser.parse_args(arguments))
