"""Runs mutation tests of one module, or of each that changed, and prints the scores."""

import argparse
import sys
from collections.abc import Callable

from tests.mutation import scores
from tests.mutation.plan import collected_anew, modules, tests_of
from tests.mutation.scores import Score
from tests.mutation.workspace import STATE, MutmutError, Workspace, sample

_SAMPLE = 60


def main() -> int:
    arguments = _arguments()
    known = scores.load()
    status = 0
    for module in arguments.modules or modules():
        tests = tests_of(module)
        digest = scores.digest([module, *tests], arguments.sample)
        score = known.get(module)
        if not arguments.modules and score and score.digest == digest:
            continue
        try:
            known[module] = _run(module, tests, arguments.sample, digest)
        except MutmutError as error:
            print(f"{module}: mutmut failed:\n{error}")
            status = 1
            continue
        scores.save(known)
    shown = arguments.modules or known
    print(scores.table({module: score for module, score in known.items() if module in shown}))
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="for example app/wire/parsing.py")
    parser.add_argument("--sample", type=int, default=_SAMPLE, help="mutants per module")
    return parser.parse_args()


def _run(module: str, tests: list[str], size: int, digest: str) -> Score:
    print(module, *tests, sep="\n  ", flush=True)
    workspace = Workspace(module, tests, collect_once=not collected_anew(module))
    mutants = workspace.mutants()
    chosen = sample(mutants, size)
    statuses = workspace.run(chosen, _progress(len(chosen)))
    print(" ", ", ".join(f"{count} {status}" for status, count in statuses.most_common()))
    survivors = STATE / "survivors" / f"{module.replace('/', '.')}.diff"
    survivors.parent.mkdir(parents=True, exist_ok=True)
    survivors.write_text("".join(workspace.survivors()))
    print(f"  survivors: {survivors.relative_to(STATE.parents[1])}", flush=True)
    return Score.of(digest, len(mutants), statuses)


def _progress(total: int) -> Callable[[int, int], None]:
    """Return a function that shows the progress in one line of a terminal."""

    def show(tested: int, killed: int) -> None:
        if sys.stdout.isatty():
            print(f"\r  {min(tested, total)} of {total} tested, {killed} killed ", end="")
            if tested >= total:
                print("\r", end="", flush=True)

    return show


sys.exit(main())
