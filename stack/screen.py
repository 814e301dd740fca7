"""What a person reads: the table of parts, and the screen at the end of `up`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chatscope.cli.grafana import trace_url
from chatscope.escaping import escape_controls
from stack.firstchat import Chat, queries
from stack.parts import Part
from stack.progress import elapsed
from stack.supervisor import ProcessState

MIB = 1024 * 1024
READY = "ready"
_MISSING = "missing"
# Columns in which a whole line of `status` fits.
_WIDTH_OF_ALL = 66
_STYLES = {READY: "green", "not ready": "yellow", "stopped": "dim", _MISSING: "yellow"}


@dataclass(frozen=True)
class Row:
    """One part as shown: its state in a word or two, memory and uptime where known."""

    name: str
    address: str
    state: str
    memory: str = ""
    uptime: str = ""


def row(part: Part, facts: Mapping[str, str], process: ProcessState | None, ready: bool) -> Row:
    """The part's row, from what process-compose and the part itself say."""
    address = facts[part.address]
    if process is None:
        return Row(part.name, address, "stopped")
    if not process.running:
        return Row(part.name, address, f"dead, exit code {process.exit_code}")
    state = READY if ready else "not ready"
    if process.restarts:
        state += f", {process.restarts} restart{'s' if process.restarts > 1 else ''}"
    memory = f"{max(process.memory, 0) / MIB:.0f} MiB"
    return Row(part.name, address, state, memory, elapsed(process.uptime))


def show_parts(
    console: Console, rows: Iterable[Row], missing: Mapping[str, str], usage: bool = False
) -> None:
    """The table of all parts, and below it why some are missing and how to get them."""
    absent = [Row(name, "", _MISSING) for name in missing]
    console.print(parts_table([*rows, *absent], console.width, usage))
    for name, reason in missing.items():
        console.print(f"{name}: {reason}", highlight=False, markup=False)


def parts_table(rows: Iterable[Row], width: int, usage: bool = False) -> Table:
    """Name, address and state of each part; with `usage` its memory and uptime too.

    A narrow terminal shows the usage instead of the addresses, which `up` has shown.
    """
    addresses = not usage or width >= _WIDTH_OF_ALL
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("part", no_wrap=True)
    if addresses:
        table.add_column("address", overflow="fold")
    table.add_column("state", overflow="fold")
    if usage:
        table.add_column("memory", justify="right", overflow="fold")
        table.add_column("up for", justify="right", overflow="fold")
    for row in rows:
        style = _STYLES.get(row.state, "red")
        cells = [row.name, *([row.address] if addresses else []), f"[{style}]{row.state}[/]"]
        table.add_row(*cells, *([row.memory, row.uptime] if usage else []))
    return table


@dataclass(frozen=True)
class Links:
    """Where a person goes on; `grafana` is empty where none runs."""

    chat: str
    grafana: str


def show_up(
    console: Console,
    rows: Iterable[Row],
    missing: Mapping[str, str],
    chat: Chat,
    links: Links,
) -> None:
    """The screen at the end of `up`: where everything is, one chat to look at, what comes next."""
    console.print()
    # The gateway is no place to look at, and the screen has to fit a terminal.
    shown = [row for row in rows if row.name != "gateway" or not row.state.startswith(READY)]
    show_parts(console, shown, missing)
    console.print("\nOne chat, found in all three stores:", f"[dim]{chat.model}[/]")
    line(console, f"trace id  {chat.trace_id}")
    if links.grafana:
        line(console, trace_url(links.grafana, chat.trace_id))
    else:
        stores = {"TraceQL": "Tempo", "LogQL": "Loki", "PromQL": "Prometheus"}
        for language, query in queries(chat.trace_id).items():
            console.print(f"[dim]{language}, for {stores[language]}[/]")
            line(console, query)
    console.print()
    line(console, f"Open {links.chat} and ask something.")
    console.print("[dim]make demo · make chat · make status · make logs · make down[/]")


def show_next(console: Console, links: Links, alerts: list[str] | None) -> None:
    """Below the table of `status`: which alerts fire, and where to look."""
    if alerts is None:
        console.print("\nAlerts: unknown, Alertmanager does not answer")
    else:
        shown = Text("\nFiring: ", "red") + Text(escape_controls(", ".join(alerts)))
        console.print(shown if alerts else "\nNo alerts")
    line(console, f"Chat: {links.chat}")
    if links.grafana:
        line(console, f"Dashboards: {links.grafana}")


def line(console: Console, text: str, *, cut: bool = False) -> None:
    """Text to be copied: never broken or coloured, however narrow the terminal is, and without
    control characters. `cut`: only as much of it as fits a row."""
    shown = Text(escape_controls(text, "\n\t"))
    if cut:
        shown.expand_tabs()
        shown.truncate(console.width, overflow="ellipsis")
    console.print(shown, soft_wrap=True)
