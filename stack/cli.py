"""The commands behind the Makefile: up, down, status, logs, chat, demo, build."""

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from stack import build, chat, docker, facts, firstchat, grafana, preflight, screen, way
from stack.base import PartDiedError, Stack
from stack.machine import MachineError
from stack.native import NativeStack
from stack.parts import BINARIES, PARTS
from stack.progress import Progress
from stack.recorded import recorded
from stack.secrets import SecretsError, telemetry_variables
from stack.supervisor import SupervisorError
from stack.terminal import Terminal
from stack.waiting import WaitError

Facts = Mapping[str, str]
# What a person can mend with the text alone; anything else is a bug and keeps its traceback.
_EXPECTED = (
    build.BuildError,
    chat.ChatError,
    docker.DockerError,
    facts.FactsError,
    firstchat.FirstChatError,
    MachineError,
    PartDiedError,
    SecretsError,
    SupervisorError,
    WaitError,
    way.WayError,
)
# Another user's files, such as those of an earlier `sudo make up`, and a read-only checkout.
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class NotReadyError(RuntimeError):
    """The stack cannot start as this machine is; the text has a line for each reason."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code is 0 only when it did what its name says."""
    console = Terminal()
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(console, facts.load(), options)
    except KeyboardInterrupt:
        console.print("\nInterrupted.")
        return 130
    except (*_EXPECTED, NotReadyError) as error:
        screen.line(console, str(error))
        return 1
    except OSError as error:
        if error.errno not in _UNWRITABLE or not error.filename:
            raise
        screen.line(console, _unwritable(error))
        return 1
    return code


def _unwritable(error: OSError) -> str:
    """What a stack that somebody else started leaves behind, or a checkout on a read-only disk."""
    path = Path(error.filename)
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    try:
        owner = there.owner()
    except (KeyError, OSError):
        owner = "somebody else"
    mend = "set STATE_DIR to a directory that you can write"
    if error.errno != errno.EROFS and there.lstat().st_uid != os.getuid():
        mend = f"run it as {owner}, or give it to yourself (sudo chown -R), or {mend}"
    return f"{error.filename}: {error.strerror} ({there} belongs to {owner}): {mend}"


def up(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Chooses the way, starts, waits, chats once, and shows where everything is."""
    started = time.monotonic()
    stack = way.running(wanted)
    if stack:
        console.print(f"Chatscope is up already, {stack.kind}.")
        _warn_of_changes(console, stack.facts, wanted)
        proof = _prove(console, stack)
    else:
        stack = _start(console, wanted)
        try:
            proof = _prove(console, stack)
        except BaseException:
            stack.stop()
            console.print("The stack was stopped.")
            raise
    seconds = time.monotonic() - started
    screen.show_up(console, _rows(stack), stack.missing, proof, seconds)
    locked = grafana.locked(stack.facts, facts.own_environment())
    if locked and "grafana" not in stack.missing:
        screen.line(console, locked)
    return 0


def _start(console: Console, wanted: Facts) -> Stack:
    progress = Progress(console)
    choice = way.choose(wanted, progress)
    stack = choice.stack(wanted)
    progress.say(f"Running {stack.kind}: {choice.reason}")
    # What a killed supervisor left would look like somebody else's programs.
    stack.stop()
    problems = preflight.port_problems(stack.facts, stack.parts)
    if choice.way == "native":
        problems += [*grafana.problems(stack.facts), *build.problems()]
    if problems:
        raise NotReadyError("\n".join(["Nothing was started:", *problems]))
    if choice.way == "native":
        build.build_missing(progress, with_tests=False)
    firstchat.prepare()
    with progress.activity("Starting the parts"):
        stack.start()
    return stack


def _prove(console: Console, stack: Stack) -> firstchat.Chat:
    progress = Progress(console)
    with progress.activity("Waiting for the parts"):
        stack.wait_ready()
    with progress.activity("Looking for one chat in three stores"):
        return firstchat.prove(stack.facts)


def _warn_of_changes(console: Console, running: Facts, wanted: Facts) -> None:
    changed = [name for name, value in wanted.items() if running.get(name) != value]
    if changed:
        console.print(f"It runs with other values of {', '.join(changed)}: make down first.")


def down(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Stops what `up` started, and nothing else."""
    with Progress(console).activity("Stopping"):
        stopped = [stack.stop() for stack in way.candidates(wanted)]
    console.print("Chatscope is down." if any(stopped) else "Chatscope was not running.")
    return 0


def status(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Shows each part; exit code 0 when all of them are ready."""
    stack = _running(wanted)
    rows = _rows(stack, usage=True)
    screen.show_parts(console, rows, stack.missing, usage=True)
    return int(not all(row.state.startswith(screen.READY) for row in rows))


def show_logs(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Prints the last lines of one part or of all; follows them on request."""
    # Of processes there are logs when they have ended, of containers there are none.
    stack = way.running(wanted) or NativeStack(wanted)
    names = [options.part] if options.part else [part.name for part in stack.parts]
    stack.show_logs(names, options.lines, follow=options.follow)
    return 0


def talk(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Chats in the terminal."""
    return chat.run(recorded(wanted), console, " ".join(options.text) or None)


def demo(console: Console, wanted: Facts, options: argparse.Namespace) -> NoReturn:
    """Lets people chat with the running service, as its settings say; see docs/demo.md."""
    running = recorded(wanted)
    environ = {
        "CHATSCOPE_URL": running["APP_URL"],
        **facts.own_environment(),
        **telemetry_variables(running, "OTLP_HTTP_URL"),
    }
    # In our place, so that an interrupt is its own, and it has the time to sum up.
    os.chdir(facts.ROOT)
    os.execve(sys.executable, [sys.executable, "-m", "demo"], environ)  # noqa: S606


def prepare(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Builds what is missing, and starts nothing."""
    problems = build.problems()
    if problems:
        raise NotReadyError("\n".join(["Nothing was built:", *problems]))
    build.build_missing(Progress(console), only=options.program or "")
    return 0


def _running(wanted: Facts) -> Stack:
    stack = way.running(wanted)
    if stack is None:
        raise NotReadyError("Chatscope is not running: make up")
    return stack


def _rows(stack: Stack, *, usage: bool = False) -> list[screen.Row]:
    states = stack.states(usage=usage)
    return [
        screen.row(part, stack.facts, states.get(part.name), stack.is_ready(part))
        for part in stack.parts
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stack")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(
        name: str, run: Callable[[Console, Facts, argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text)
        sub.set_defaults(run=run)
        return sub

    command("up", up, "build, start, and show one chat in three stores")
    command("down", down, "stop what up started")
    command("status", status, "state, address, memory and uptime of each part")
    command("demo", demo, "people who chat with the running service")
    programs = command("build", prepare, "build the parts that are not in the cache")
    programs.add_argument("program", nargs="?", choices=[binary.name for binary in BINARIES])
    log = command("logs", show_logs, "the last lines of the parts' logs")
    log.add_argument("part", nargs="?", choices=[part.name for part in PARTS])
    log.add_argument("-f", "--follow", action="store_true", help="go on printing new lines")
    log.add_argument("-n", "--lines", type=int, default=15, help="how many of each part")
    words = command("chat", talk, "chat in the terminal, or ask once")
    words.add_argument("text", nargs="*")
    return parser
