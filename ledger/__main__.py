"""Run the ledger; exit code 0 if every item is stored once and intact, otherwise 1."""

import sys
import time

import httpx2
from rich.console import Console
from rich.table import Table

from demo.environment import LoadSettingsError
from ledger.account import Account, Accounts
from ledger.backends import reconcile
from ledger.item import SERVICE, trace_id, trace_of
from ledger.load import Load, LoadError, steady_load
from ledger.settings import LedgerSettings
from stack import facts, way
from stack.progress import Progress
from stack.terminal import Terminal

_INVALID_SETTINGS = 2
_TICK_SECONDS = 0.5
_NUMBERS_SHOWN = 5
_COLUMNS = ("sent", "found", "lost", "duplicates", "corrupted", "late", "latest")
# Width at which a whole row fits.
_WIDTH = 80


def main() -> int:
    """Run the ledger and return the exit code."""
    console = Terminal()
    try:
        settings = LedgerSettings.read(facts.own_environment())
    except LoadSettingsError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return _INVALID_SETTINGS
    stack = way.running(facts.load())
    if stack is None:
        console.print("Chatscope is not running: make up")
        return 1
    try:
        accounts = _run(console, stack.facts, settings)
    except KeyboardInterrupt:
        console.print("\nInterrupted.")
        return 130
    except (LoadError, httpx2.HTTPError) as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    return 1 if accounts.difference else 0


def _run(console: Console, known: dict[str, str], settings: LedgerSettings) -> Accounts:
    console.print(
        f"{SERVICE} creates {settings.rate:g} spans, log lines and increments a second for"
        f" {settings.seconds:g} s, and then looks for each of them."
    )
    progress = Progress(console)
    with (
        steady_load(known, rate=settings.rate) as load,
        progress.activity("Creating items"),
    ):
        _until(progress, load, settings.seconds)
    with progress.activity("Looking for each item"):
        accounts = reconcile(
            known, load, settings.patience, late_after=settings.late, tick=progress.tick
        )
    show(console, accounts)
    return accounts


def _until(progress: Progress, load: Load, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and load.pid:
        progress.tick()
        time.sleep(min(left, _TICK_SECONDS))


def show(console: Console, accounts: Accounts) -> None:
    """Print a row for each signal, or a column on a narrow terminal, and further results."""
    lines = [_row(name, account) for name, account in accounts.all.items()]
    titles = ("run " + accounts.run, *_COLUMNS)
    narrow = console.width < _WIDTH
    if narrow:
        titles, *lines = zip(titles, *lines, strict=True)
    table = Table(
        box=None, pad_edge=False, padding=(0, 1 if narrow else 2, 0, 0), header_style="dim"
    )
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    console.print(table)
    console.print(f"Longest time without a sample of the counter: {accounts.gap:.1f} s")
    for name, account in accounts.all.items():
        if account.lost_numbers:
            shown = [
                f"{number} of trace {trace_id(accounts.run, trace_of(number))}"
                for number in account.lost_numbers[:_NUMBERS_SHOWN]
            ]
            console.print(f"Lost {name}:", ", ".join(shown), soft_wrap=True)


def _row(name: str, account: Account) -> tuple[str, ...]:
    style = "red" if account.difference else "green"
    counts = (account.sent, account.found, account.lost, account.duplicates, account.corrupted)
    is_known = account.latest is not None
    late = str(account.late) if is_known else ""
    latest = f"{account.latest:.1f} s" if is_known else ""
    return (f"[{style}]{name}[/]", *map(str, counts), late, latest)


if __name__ == "__main__":
    sys.exit(main())
