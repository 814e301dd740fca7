"""Output for the terminal: the table of components, and the result of `up`."""

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
# Width at which a whole line of `status` fits.
_WIDTH_OF_ALL = 66
_STYLES = {READY: "green", "not ready": "yellow", "stopped": "dim", _MISSING: "yellow"}


@dataclass(frozen=True)
class Row:
    """One component as displayed: state, and memory and uptime where known."""

    name: str
    address: str
    state: str
    memory: str = ""
    uptime: str = ""


def row(part: Part, facts: Mapping[str, str], process: ProcessState | None, ready: bool) -> Row:
    """Return a component's row, from its process and its readiness."""
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
    """Print the table of all components, and the reason for each that is missing."""
    absent = [Row(name, "", _MISSING) for name in missing]
    console.print(parts_table([*rows, *absent], console.width, usage))
    for name, reason in missing.items():
        console.print(f"{name}: {reason}", highlight=False, markup=False)


def parts_table(rows: Iterable[Row], width: int, usage: bool = False) -> Table:
    """Return a table of name, address and state; with `usage` also memory and uptime.

    A narrow terminal shows the usage instead of the addresses, which `up` shows.
    """
    addresses = not usage or width >= _WIDTH_OF_ALL
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("component", no_wrap=True)
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
    """Addresses for users; `grafana` is empty if none runs."""

    chat: str
    grafana: str


def show_up(
    console: Console,
    rows: Iterable[Row],
    missing: Mapping[str, str],
    chat: Chat,
    links: Links,
) -> None:
    """Print the result of `up`: addresses, one chat to inspect, further commands."""
    console.print()
    # The gateway has nothing to look at, and the output has to fit a terminal.
    shown = [row for row in rows if row.name != "gateway" or not row.state.startswith(READY)]
    show_parts(console, shown, missing)
    console.print("\nOne chat, found in all three backends:", f"[dim]{chat.model}[/]")
    line(console, f"trace ID  {chat.trace_id}")
    if links.grafana:
        line(console, trace_url(links.grafana, chat.trace_id))
    else:
        backends = {"TraceQL": "Tempo", "LogQL": "Loki", "PromQL": "Prometheus"}
        for language, query in queries(chat.trace_id).items():
            console.print(f"[dim]{language}, for {backends[language]}[/]")
            line(console, query)
    console.print()
    line(console, f"Open {links.chat} and ask something.")
    console.print("[dim]make demo · make chat · make status · make logs · make down[/]")


def show_next(console: Console, links: Links, alerts: list[str] | None) -> None:
    """Print firing alerts and addresses, below the table of `status`."""
    if alerts is None:
        console.print("\nAlerts: unknown, Alertmanager does not respond")
    else:
        shown = Text("\nFiring: ", "red") + Text(escape_controls(", ".join(alerts)))
        console.print(shown if alerts else "\nNo alerts")
    line(console, f"Chat: {links.chat}")
    if links.grafana:
        line(console, f"Dashboards: {links.grafana}")


def line(console: Console, text: str, *, cut: bool = False) -> None:
    """Print text that can be copied: without line breaks, colours or control characters, whatever
    the terminal's width. `cut`: truncate it to one row."""
    shown = Text(escape_controls(text, "\n\t"))
    if cut:
        shown.expand_tabs()
        shown.truncate(console.width, overflow="ellipsis")
    console.print(shown, soft_wrap=True)
