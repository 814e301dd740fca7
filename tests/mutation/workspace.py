"""A copy of the working tree in which mutmut changes one module and runs its tests."""

import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from configparser import ConfigParser
from contextlib import chdir
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".chatscope/mutation"
PACKAGES = ("app", "chatscope")
_TREE = STATE / "tree"
NOT_KILLED = ("survived", "no tests", "no result")
_SEED = 20_240_229
_PROCESSES = "2"
_OPTIONS = {
    "source_paths": PACKAGES,
    # Failures are not printed: some of their texts cannot be encoded, which would end a worker.
    "pytest_add_cli_args": (
        "--tb=no",
        "-rN",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::ResourceWarning",
    ),
    # The first argument of `cast` has no effect at run time.
    "do_not_mutate_patterns": (r"\bcast\(",),
    # The tests start threads, and gRPC may not be forked while it is in use.
    "process_isolation": "forkserver",
    "use_git_change_detection": "false",
    "track_dependencies": "false",
    # A mutant may take ten times as long as its tests, and 10 s for a busy machine.
    "timeout_constant": "1",
    "timeout_multiplier": "10",
}
# The tests could not be run, for example because one of them has another name in each process.
_NO_RESULT = 255
_SPINNER = re.compile("[\u2800-\u28ff]")
_PROGRESS = re.compile(r"(\d+)/\d+  \S+ (\d+)")


class MutmutError(Exception):
    """mutmut failed; the text is the end of its output."""


class Workspace:
    """The copy, prepared for one module. `module` and `tests` are paths from the root.

    With `collect_once` the tests are collected once, before any mutant is active; that saves
    seconds for each mutant.
    """

    def __init__(self, module: str, tests: Sequence[str], *, collect_once: bool = True) -> None:
        self._module = module
        self._copy_tree()
        self._configure(tests, "collect" if collect_once else "none")

    def mutants(self) -> list[str]:
        """Return the names of all mutants of the module."""
        from mutmut.mutation.file_mutation import mutate_file_contents  # noqa: PLC0415

        with chdir(_TREE):  # mutmut reads its configuration from the current directory
            names = mutate_file_contents(self._module, Path(self._module).read_text()).mutant_names
        dotted = self._module.removesuffix(".py").replace("/", ".")
        return [f"{dotted}.{name}" for name in names]

    def run(self, mutants: Sequence[str], progress: Callable[[int, int], None]) -> Counter[str]:
        """Test `mutants` and return how many ended with each of mutmut's statuses.

        `progress` is called with the number of mutants tested and killed so far.
        Raises MutmutError, for example when the tests fail without a mutation.
        """
        lines = []
        for line in self._mutmut("run", "--max-children", _PROCESSES, *mutants):
            if counts := _PROGRESS.search(line):
                progress(int(counts[1]), int(counts[2]))
            elif not _SPINNER.match(line):
                lines.append(line)
        statuses = self._statuses()
        if not all(mutant in statuses for mutant in mutants):
            raise MutmutError("".join(lines[-40:]))
        return Counter(statuses[mutant] for mutant in mutants)

    def survivors(self) -> Iterator[str]:
        """Yield a diff of each mutant that no test killed."""
        from mutmut.mutation.diff_apply import get_diff_for_mutant  # noqa: PLC0415

        for name, status in self._statuses().items():
            if status in NOT_KILLED:
                with chdir(_TREE):
                    diff = get_diff_for_mutant(name, path=Path(self._module))
                yield f"# {name}: {status}\n{diff}\n"

    def _copy_tree(self) -> None:
        shutil.rmtree(_TREE, ignore_errors=True)
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (_TREE / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, _TREE / name)

    def _configure(self, tests: Sequence[str], warmup: str) -> None:
        config = ConfigParser(interpolation=None)
        copied = sorted(path.name for path in _TREE.iterdir() if path.name not in PACKAGES)
        lists = {
            "only_mutate": [self._module],
            "also_copy": copied,
            "pytest_add_cli_args_test_selection": tests,
        }
        config["mutmut"] = {
            name: value if isinstance(value, str) else "\n" + "\n".join(value)
            for name, value in {**_OPTIONS, **lists, "forkserver_warmup": warmup}.items()
        }
        with (_TREE / "setup.cfg").open("w") as file:
            config.write(file)

    def _statuses(self) -> dict[str, str]:
        """Return the status of each mutant that was tested."""
        from mutmut.stats import status_by_exit_code  # noqa: PLC0415

        file = _TREE / "mutants" / f"{self._module}.meta"
        codes: dict[str, int | None] = json.loads(file.read_text())["exit_code_by_key"]
        named = {**status_by_exit_code, _NO_RESULT: "no result"}
        return {
            name: named.get(code, "suspicious") for name, code in codes.items() if code is not None
        }

    def _mutmut(self, *arguments: str) -> Iterator[str]:
        """Yield the lines of mutmut's output, each state of its progress as one."""
        command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
        with subprocess.Popen(
            command,
            cwd=_TREE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            yield from process.stdout


def sample(mutants: Sequence[str], size: int) -> list[str]:
    """Return at most `size` of `mutants`, the same ones for the same list."""
    if len(mutants) <= size:
        return list(mutants)
    return random.Random(_SEED).sample(mutants, size)  # noqa: S311
