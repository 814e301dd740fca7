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
from stack.parts import BINARIES, PARTS
from stack.progress import Progress
from stack.recorded import recorded
from stack.secrets import SecretsError, telemetry_variables
from stack.supervisor import SupervisorError
from stack.terminal import Terminal
from stack.waiting import WaitError

Facts = Mapping[str, str]
# Errors that the user can fix with the text alone; any other one is a bug and keeps its traceback.
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
# Files of another user, such as after `sudo make up`, and a read-only checkout.
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


# For all components, as many as fit on a screen together.
LINES_OF_ONE = 30
LINES_OF_EACH = 5


class NotReadyError(RuntimeError):
    """The stack cannot be started; the text has a line for each reason."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 only if it succeeded."""
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
    """Explain a file of another user's stack, or of a checkout on a read-only disk."""
    path = Path(error.filename)
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    try:
        owner = there.owner()
    except (KeyError, OSError):
        owner = "another user"
    fix = "set STATE_DIR to a directory that you can write"
    if error.errno != errno.EROFS and there.lstat().st_uid != os.getuid():
        fix = f"run it as {owner}, or change its owner (sudo chown -R), or {fix}"
    return f"{error.filename}: {error.strerror} ({there} belongs to {owner}): {fix}"


def up(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Choose the mode, start, wait, send one chat, and print all addresses."""
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
    # Processes of a killed supervisor would occupy the ports.
    stack.stop()
    problems = preflight.port_problems(stack.facts, stack.listeners)
    if choice.way == "native":
        problems += _native_problems(stack.facts)
    if problems:
        raise NotReadyError("\n".join(["Nothing was started:", *problems]))
    if choice.way == "native":
        _get_programs(stack.facts, progress)
    firstchat.prepare()
    with progress.activity("Starting the components"):
        stack.start()
    return stack


def _native_problems(wanted: Facts) -> list[str]:
    """Return the problems that prevent native components from starting, each with its fix."""
    directory = wanted["COMPONENTS_DIR"]
    if directory and not Path(directory).is_dir():
        return [f"COMPONENTS_DIR={directory} is not a directory: set an existing one, or unset it"]
    used = parts.released(wanted).used
    more = way.native(wanted).more_programs
    return [*grafana.problems(wanted), *build.problems(with_tests=False, without=used, more=more)]


def _get_programs(wanted: Facts, progress: Progress) -> None:
    """Report which official releases are used, and build the programs that have none."""
    found = parts.released(wanted)
    for release in found.used.values():
        progress.say(f"Using {release.program} {release.version}, {release.path}")
    if wanted["GRAFANA_HOME"]:
        progress.say(f"Using grafana {grafana.VERSION}, {wanted['GRAFANA_HOME']}")
    for reason in found.refused:
        progress.say(f"Not used: {reason}")
    more = way.native(wanted).more_programs
    missing = parts.missing_binaries(with_tests=False, without=found.used, more=more)
    if missing:
        names = ", ".join(releases.described(each.name) for each in missing)
        progress.say(
            f"To be built from source: {', '.join(each.name for each in missing)}. That is not "
            f"needed with official releases on PATH or in COMPONENTS_DIR: {names}"
        )
    build.build_missing(progress, with_tests=False, without=found.used, more=more)


def _links(stack: Stack) -> screen.Links:
    """Return the addresses for users: the chat, and Grafana if it runs."""
    has_grafana = "grafana" not in stack.missing
    return screen.Links(
        stack.facts["APP_URL"], stack.facts["GRAFANA_PUBLIC_URL"] if has_grafana else ""
    )


def _prove(console: Console, stack: Stack) -> firstchat.Chat:
    progress = Progress(console)
    with progress.activity("Waiting for the components"):
        stack.wait_ready()
    with progress.activity("Looking for one chat in three backends"):
        return firstchat.prove(stack.facts)


def _warn_of_changes(console: Console, running: Facts, wanted: Facts) -> None:
    """Warn of variables of the shell or .env that differ from those of the running stack."""
    for name in facts.own_environment():
        was, now = running.get(name), wanted.get(name)
        if was is not None and now is not None and was != now:
            was = was or "unset"
            screen.line(
                console,
                f"{name}={now} has no effect: the stack runs with {was}. make down, then make up",
            )


def down(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Stop the stack that `up` started."""
    with Progress(console).activity("Stopping"):
        stopped = [stack.stop() for stack in way.candidates(wanted)]
    console.print("Chatscope is down." if any(stopped) else "Chatscope was not running.")
    return 0


def status(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Print each component's state; return 0 if all of them are ready."""
    stack = _running(wanted)
    rows = _rows(stack, usage=True)
    _warn_of_changes(console, stack.facts, wanted)
    screen.show_parts(console, rows, stack.missing, usage=True)
    screen.show_next(console, _links(stack), firing(stack.facts))
    return int(not all(row.state.startswith(screen.READY) for row in rows))


def show_logs(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Print the last lines of one log or of all; follow them on request."""
    # Logs of processes remain after they exit, those of containers do not.
    stack = way.running(wanted) or way.native(wanted)
    known = [part.name for part in (*PARTS, *stack.more_parts)]
    if options.part and options.part not in known:
        raise NotReadyError(f"PART={options.part} is not accepted: use one of {', '.join(known)}")
    names = [options.part] if options.part else [part.name for part in stack.parts]
    lines = options.lines or (LINES_OF_ONE if options.part else LINES_OF_EACH)
    if not stack.show_logs(names, lines, follow=options.follow):
        raise NotReadyError("There are no logs: nothing has run here yet. make up")
    return 0


def talk(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Chat in the terminal."""
    # Imports the WebSocket client, which other commands do not need.
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
    """Run simulated users against the running service; see docs/demo.md."""
    running = recorded(wanted)
    environ = {
        "CHATSCOPE_URL": running["APP_URL"],
        **facts.own_environment(),
        **telemetry_variables(running, "OTLP_HTTP_URL"),
    }
    # Replaces this process, so that the demo handles an interrupt and can print its summary.
    os.chdir(facts.ROOT)
    os.execve(sys.executable, [sys.executable, "-m", "demo"], environ)  # noqa: S606


def prepare(console: Console, wanted: Facts, options: argparse.Namespace) -> int:
    """Build missing programs without starting the stack."""
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

    command("up", up, "build, start, and show one chat in three backends")
    command("down", down, "stop the stack that up started")
    command("status", status, "state, address, memory and uptime of each component")
    command("demo", demo, "simulated users of the running service")
    programs = command("build", prepare, "build the programs that are not in the cache")
    programs.add_argument("program", nargs="?", choices=[binary.name for binary in BINARIES])
    log = command("logs", show_logs, "the last lines of the components' logs")
    log.add_argument("part", nargs="?", help="one component: more lines, and not truncated")
    log.add_argument("-f", "--follow", action="store_true", help="continue with new lines")
    log.add_argument("-n", "--lines", type=int, help="number of lines of each component")
    words = command("chat", talk, "chat in the terminal, or send one message")
    words.add_argument("text", nargs="*")
    return parser
