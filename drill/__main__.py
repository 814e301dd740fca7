"""`python -m drill [case]`: 0 when the right alerts came, and no other; 1 when not."""

import argparse
import signal
import sys
from contextlib import ExitStack
from typing import Final

from rich.console import Console

from alerts.budgets import SlothError
from alerts.objectives import ObjectivesError
from drill.cases import CASES, PROMISED, rounds
from drill.course import run
from drill.ground import GroundError, ground
from drill.screen import Screen, show_result
from stack.base import PartDiedError
from stack.facts import ROOT
from stack.progress import Progress
from stack.supervisor import SupervisorError
from stack.terminal import Terminal
from stack.waiting import WaitError

_DIRECTORY: Final = ROOT / ".chatscope" / "drill"
_EXPECTED: Final = (
    GroundError,
    ObjectivesError,
    PartDiedError,
    SlothError,
    SupervisorError,
    WaitError,
)


def main(arguments: list[str]) -> int:
    console = Terminal()
    parser = argparse.ArgumentParser(prog="python -m drill", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("case", nargs="?", choices=names, help="one case; default all")
    chosen = parser.parse_args(arguments).case
    # As by Ctrl-C: nothing is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _drill(console, chosen)
    except KeyboardInterrupt:
        console.print("\nInterrupted: the drill's stack is gone.")
        return 130
    except _EXPECTED as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1


def _drill(console: Console, chosen: str | None) -> int:
    cases = tuple(case for case in CASES if chosen in (None, case.name))
    minutes = "two or three minutes" if chosen else "about five minutes"
    console.print(
        "A fire drill: starts a Chatscope for the purpose, with rules that look at seconds, breaks"
        f" it, and sees who is told what. It takes {minutes}; the Chatscope that you run, and"
        " whom its alerts reach, are left alone. Ctrl-C ends all of it."
    )
    for case in cases:
        console.print(f"  {case.name:10} {case.breaks}")
    console.print()
    screen, courses = Screen(console), []
    with ExitStack() as until_the_end:
        with Progress(console).activity("Starting the drill's stack"):
            place = until_the_end.enter_context(ground(_DIRECTORY, about=PROMISED))
        for together in rounds(cases):
            with screen.round():
                courses += run(place, together, screen.show)
    show_result(console, courses)
    if any(course.faults for course in courses):
        console.print(f"Logs of the parts: {_DIRECTORY / 'state' / 'logs'}", soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
