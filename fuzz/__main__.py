"""`make fuzz`: fuzz all targets, or some, for a number of seconds or inputs each."""

import argparse
import sys

from fuzz import run, targets


def main() -> int:
    """Return the exit code: 1 if a target failed."""
    known = targets.load()
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(known))
    parser.add_argument("--seconds", type=int, help="for each target (default: 60)")
    parser.add_argument("--inputs", type=int, help="for each target")
    parser.add_argument(
        "--blind", type=int, metavar="SEED", help="changed inputs of the corpus, without feedback"
    )
    parser.add_argument("--input", metavar="FILE", help="run one input, such as that of a fault")
    parser.add_argument("--minimize", action="store_true", help="then update fuzz/corpus")
    given = parser.parse_args()
    if unknown := set(given.targets) - known.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; targets: {', '.join(known)}")
    chosen = [known[name] for name in given.targets or known]
    if given.input:
        with open(given.input, "rb") as file:
            chosen[0].run(file.read())
        return 0
    seconds = given.seconds if given.seconds or given.inputs else 60
    failed = False
    for target in chosen:
        if given.blind is not None:
            figures = run.fuzz_blindly(target, given.blind, inputs=given.inputs, seconds=seconds)
        else:
            figures = run.fuzz(target, inputs=given.inputs, seconds=seconds)
        failed |= figures.fault is not None
        print(figures)
        if given.minimize and figures.fault is None:
            run.minimize(target)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
