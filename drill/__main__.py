"""Run a fire drill; exit code 0 if the expected alerts arrived and no others, otherwise 1."""

import argparse
import signal
import sys
from contextlib import ExitStack
from typing import Final

from rich.console import Console

from alerts.budgets import SlothError
from alerts.objectives import ObjectivesError
from drill.cases import CASES, OBJECTIVES_SERVICE, rounds
from drill.runs import run
from drill.screen import Screen, show_result
from drill.target import TargetError, target
from stack.base import PartDiedError
from stack.facts import ROOT
from stack.progress import Progress
from stack.supervisor import SupervisorError
from stack.terminal import Terminal
from stack.waiting import WaitError

_DIRECTORY: Final = ROOT / ".chatscope" / "drill"
_EXPECTED: Final = (
    ObjectivesError,
    PartDiedError,
    SlothError,
    SupervisorError,
    TargetError,
    WaitError,
)


def main(arguments: list[str]) -> int:
    console = Terminal()
    parser = argparse.ArgumentParser(prog="python -m drill", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("case", nargs="?", choices=names, help="run one case instead of all")
    chosen = parser.parse_args(arguments).case
    # As by Ctrl-C: stops the stack.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _drill(console, chosen)
    except KeyboardInterrupt:
        console.print("\nInterrupted; the drill's stack is stopped.")
        return 130
    except _EXPECTED as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1


def _drill(console: Console, chosen: str | None) -> int:
    cases = tuple(case for case in CASES if chosen in (None, case.name))
    minutes = "a minute or two" if chosen else "about three minutes"
    console.print(
        "Fire drill: starts a separate stack with rules whose windows are seconds, injects faults,"
        f" and checks which alerts arrive. It takes {minutes}. Your own stack and its receivers are"
        " not touched. Press Ctrl-C to stop."
    )
    for case in cases:
        console.print(f"  {case.name:10} {case.description}")
    console.print()
    screen, runs = Screen(console), []
    with ExitStack() as exits:
        with Progress(console).activity("Starting the drill's stack"):
            stack = exits.enter_context(target(_DIRECTORY, service=OBJECTIVES_SERVICE))
        for together in rounds(cases):
            with screen.round():
                runs += run(stack, together, screen.show)
    show_result(console, runs)
    if any(each.problems for each in runs):
        console.print(f"Logs of the components: {_DIRECTORY / 'state' / 'logs'}", soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
