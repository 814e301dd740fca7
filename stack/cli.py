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

from chatscope.cli.errors import CommandError
from chatscope.cli.grafana import answers
from stack import (
    build,
    docker,
    facts,
    firstchat,
    grafana,
    parts,
    preflight,
    releases,
    screen,
    way,
)
from stack.alerts import firing
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
    CommandError,
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


# Of all parts, as many as fit a screen together.
LINES_OF_ONE = 30
LINES_OF_EACH = 5


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
    if already := stack is not None:
        console.print(f"[bold]Chatscope is up already[/], {stack.kind}.")
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
    if not already:
        console.print(f"[bold]Chatscope is up[/], after {time.monotonic() - started:.1f} s")
    screen.show_up(console, _rows(stack), stack.missing, proof, _links(stack))
    locked = grafana.locked(stack.facts, facts.own_environment())
    if locked and "grafana" not in stack.missing:
        screen.line(console, locked)
    return 0


def _start(console: Console, wanted: Facts) -> Stack:
    progress = Progress(console)
    choice = way.choose(wanted, progress)
    if choice.way == "native" and not wanted["GRAFANA_HOME"]:
        found = grafana.find(wanted["COMPONENTS_DIR"], os.environ.get("PATH", ""))
        wanted = {**wanted, "GRAFANA_HOME": found}
    stack = choice.stack(wanted)
    progress.say(f"Running {stack.kind}: {choice.reason}")
    # What a killed supervisor left would look like somebody else's programs.
    stack.stop()
    problems = preflight.port_problems(stack.facts, stack.parts)
    if choice.way == "native":
        problems += _native_problems(stack.facts)
    if problems:
        raise NotReadyError("\n".join(["Nothing was started:", *problems]))
    if choice.way == "native":
        _get_programs(stack.facts, progress)
    firstchat.prepare()
    with progress.activity("Starting the parts"):
        stack.start()
    return stack


def _native_problems(wanted: Facts) -> list[str]:
    """What keeps native parts from starting, each line with its mend."""
    directory = wanted["COMPONENTS_DIR"]
    if directory and not Path(directory).is_dir():
        return [f"COMPONENTS_DIR={directory} is no directory: name one, or unset it"]
    used = parts.released(wanted).used
    return [*grafana.problems(wanted), *build.problems(with_tests=False, without=used)]


def _get_programs(wanted: Facts, progress: Progress) -> None:
    """Tell which official releases are used, and build the programs that have none."""
    found = parts.released(wanted)
    for release in found.used.values():
        progress.say(f"Using {release.program} {release.version}, {release.path}")
    if wanted["GRAFANA_HOME"]:
        progress.say(f"Using grafana {grafana.VERSION}, {wanted['GRAFANA_HOME']}")
    for reason in found.refused:
        progress.say(f"Not used: {reason}")
    missing = parts.missing_binaries(with_tests=False, without=found.used)
    if missing:
        names = ", ".join(releases.described(each.name) for each in missing)
        progress.say(
            f"To be built from source: {', '.join(each.name for each in missing)}. That is not "
            f"needed with official releases on PATH or in COMPONENTS_DIR: {names}"
        )
    build.build_missing(progress, with_tests=False, without=found.used)


def _links(stack: Stack) -> screen.Links:
    """Where a person goes on: the chat, and Grafana where it runs."""
    has_grafana = "grafana" not in stack.missing
    return screen.Links(
        stack.facts["APP_URL"], stack.facts["GRAFANA_PUBLIC_URL"] if has_grafana else ""
    )


def _prove(console: Console, stack: Stack) -> firstchat.Chat:
    progress = Progress(console)
    with progress.activity("Waiting for the parts"):
        stack.wait_ready()
    with progress.activity("Looking for one chat in three stores"):
        return firstchat.prove(stack.facts)


def _warn_of_changes(console: Console, running: Facts, wanted: Facts) -> None:
    """Say which variables of the shell or .env the running stack was not started with."""
    for name in facts.own_environment():
        was, now = running.get(name), wanted.get(name)
        if was is not None and now is not None and was != now:
            was = was or "unset"
            screen.line(
                console, f"{name}={now} has no effect: it runs with {was}. make down, then make up"
            )


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
    _warn_of_changes(console, stack.facts, wanted)
    screen.show_parts(console, rows, stack.missing, usage=True)
    screen.show_next(console, _links(stack), firing(stack.facts))
    return int(not all(row.state.startswith(screen.READY) for row in rows))


def show_logs(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Prints the last lines of one part or of all; follows them on request."""
    # Of processes there are logs when they have ended, of containers there are none.
    stack = way.running(wanted) or NativeStack(wanted)
    known = [part.name for part in PARTS]
    if options.part and options.part not in known:
        raise NotReadyError(f"PART={options.part} is no part: it is one of {', '.join(known)}")
    names = [options.part] if options.part else [part.name for part in stack.parts]
    lines = options.lines or (LINES_OF_ONE if options.part else LINES_OF_EACH)
    if not stack.show_logs(names, lines, follow=options.follow):
        raise NotReadyError("Nothing has run here yet, so there are no logs: make up")
    return 0


def talk(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Chats in the terminal."""
    # It imports the client of WebSockets, which the other commands do not need.
    from chatscope.cli import chat  # noqa: PLC0415

    running = recorded(wanted)
    _warn_of_changes(console, running, wanted)
    succeeded = chat.run(
        running["APP_URL"],
        console,
        " ".join(options.text) or None,
        key=facts.own_environment().get("CHATSCOPE_API_KEY"),
        grafana_url=running["GRAFANA_PUBLIC_URL"] if answers(running["GRAFANA_URL"]) else None,
    )
    return int(not succeeded)


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
    log.add_argument("part", nargs="?", help="one of them: longer, and with whole lines")
    log.add_argument("-f", "--follow", action="store_true", help="go on printing new lines")
    log.add_argument("-n", "--lines", type=int, help="how many of each part")
    words = command("chat", talk, "chat in the terminal, or ask once")
    words.add_argument("text", nargs="*")
    return parser
