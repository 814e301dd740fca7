"""`python -m ledger`: 0 when all that was made is stored once and as it was, 1 when not."""

import sys
import time

import httpx2
from rich.console import Console
from rich.table import Table

from demo.environment import LoadSettingsError
from ledger.account import Account, Accounts
from ledger.item import SERVICE, trace_id, trace_of
from ledger.load import Load, LoadError, steady_load
from ledger.settings import LedgerSettings
from ledger.stores import reconcile
from stack import facts, way
from stack.progress import Progress
from stack.terminal import Terminal

_WRONG_SETTINGS = 2
_TICK_SECONDS = 0.5
_NUMBERS_SHOWN = 5
_COLUMNS = ("sent", "found", "lost", "twice", "corrupted", "late", "latest")
# Columns of a terminal in which a whole row fits.
_WIDTH = 75


def main() -> int:
    """Run; the process's exit code."""
    console = Terminal()
    try:
        settings = LedgerSettings.read(facts.own_environment())
    except LoadSettingsError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return _WRONG_SETTINGS
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
        f"{SERVICE} makes {settings.rate:g} spans, log lines and increments a second for"
        f" {settings.seconds:g} s, then each one is looked for."
    )
    progress = Progress(console)
    with (
        steady_load(known, rate=settings.rate) as load,
        progress.activity("Making items"),
    ):
        _until(progress, load, settings.seconds)
    with progress.activity("Looking for each of them"):
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
    """A row for each signal, a column in a narrow terminal; then what else there is to say."""
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
    console.print(f"The longest time without a sample of the counter: {accounts.gap:.1f} s")
    for name, account in accounts.all.items():
        if account.lost_numbers:
            shown = [
                f"{number} of trace {trace_id(accounts.run, trace_of(number))}"
                for number in account.lost_numbers[:_NUMBERS_SHOWN]
            ]
            console.print(f"Lost {name}:", ", ".join(shown), soft_wrap=True)


def _row(name: str, account: Account) -> tuple[str, ...]:
    style = "red" if account.difference else "green"
    counts = (account.sent, account.found, account.lost, account.twice, account.corrupted)
    is_known = account.latest is not None
    late = str(account.late) if is_known else ""
    latest = f"{account.latest:.1f} s" if is_known else ""
    return (f"[{style}]{name}[/]", *map(str, counts), late, latest)


if __name__ == "__main__":
    sys.exit(main())
