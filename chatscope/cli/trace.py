"""`chatscope trace`: one trace as a tree, with its log records, tokens and cost."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from chatscope.cli import records
from chatscope.cli.errors import CommandError
from chatscope.cli.grafana import trace_url
from chatscope.cli.loki import Line, Loki, selector
from chatscope.cli.responses import number, tokens
from chatscope.cli.screen import clock, joined, line, money, safe, seconds
from chatscope.cli.spans import Span
from chatscope.cli.tempo import Tempo, found_trace
from chatscope.cli.times import SECOND, as_text
from chatscope.names import (
    ANSWER_COST,
    ANSWER_OUTCOME,
    ERROR_MESSAGE,
    ERROR_TYPE,
    GEN_AI_EVALUATION_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
    TIME_TO_FIRST_TOKEN,
)

# Records are written after the end of a span, and clocks differ.
_AROUND: Final = 300 * SECOND
_MAX_SPANS: Final = 200
_MAX_RECORDS: Final = 200
_MAX_DEPTH: Final = 12
_BAR: Final = 20
# Columns of a name at least, of a duration, and of the tree.
_NAME_COLUMNS: Final = 20
_TOOK_COLUMNS: Final = 12
_MAX_COLUMNS: Final = 120


@dataclass(frozen=True)
class Trace:
    """The spans of a trace, the earliest first, and its log records.

    `problem` is why these could not be read; a trace is worth a look without them.
    """

    trace_id: str
    spans: Sequence[Span]
    records: Sequence[Line]
    problem: str = ""

    @property
    def start(self) -> int:
        """The time of its beginning, in ns."""
        return self.spans[0].start

    @property
    def seconds(self) -> float:
        """From its beginning until the end of its last span, without ratings.

        A response may be rated long after its end.
        """
        ends = [span.end for span in self.spans if GEN_AI_EVALUATION_NAME not in span.attributes]
        return (max(ends, default=self.start) - self.start) / SECOND

    def total(self, attribute: str) -> float | None:
        """Return the sum of a number on its spans; None if no span has it."""
        found = [
            value
            for span in self.spans
            if (value := number(span.attributes.get(attribute, ""))) is not None
        ]
        return sum(found) if found else None


def read(tempo: Tempo, loki: Loki, text: str) -> Trace:
    """Return the trace that the ID of a trace or of a response leads to. Raise CommandError."""
    trace_id = found_trace(tempo, text)
    spans = tempo.trace(trace_id)
    if not spans:
        raise CommandError(
            f"Tempo at {tempo.url} has no trace {trace_id}: it arrives some seconds after its "
            "response, and is kept for as long as RETENTION says"
        )
    start, end = spans[0].start - _AROUND, max(span.end for span in spans) + _AROUND
    try:
        found = loki.newest(f'{selector([])} | trace_id="{trace_id}"', start, end, _MAX_RECORDS)
    except CommandError as error:
        return Trace(trace_id, spans, (), str(error))
    return Trace(trace_id, spans, found)


def as_object(trace: Trace) -> dict[str, Any]:
    """Return a trace for JSON."""
    return {
        "trace_id": trace.trace_id,
        "start": as_text(trace.start),
        "seconds": trace.seconds,
        "input_tokens": _whole(trace.total(GEN_AI_USAGE_INPUT_TOKENS)),
        "output_tokens": _whole(trace.total(GEN_AI_USAGE_OUTPUT_TOKENS)),
        "cost": trace.total(ANSWER_COST),
        "spans": [asdict(span) for span in trace.spans],
        "records": [records.as_object(record) for record in trace.records],
        "problem": trace.problem or None,
    }


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)


def show(console: Console, trace: Trace, grafana_url: str | None) -> None:
    """Print the tree, the log records, and the sums."""
    line(console, f"Trace {trace.trace_id}", "bold")
    console.print(safe(f"{clock(trace.start, with_date=True)}, {seconds(trace.seconds)}", "dim"))
    console.print()
    _show_tree(console, trace)
    if (hidden := len(trace.spans) - _MAX_SPANS) > 0:
        console.print(f"… {hidden} more spans: --json shows all of them", style="dim")
    if trace.records:
        console.print()
        records.show(console, list(trace.records), with_trace=False)
    if trace.problem:
        console.print()
        console.print(safe(f"No log records: {trace.problem}", "yellow"))
    if sums := joined(_sums(trace)):
        console.print()
        console.print(sums)
    if grafana_url:
        console.print()
        line(console, trace_url(grafana_url, trace.trace_id), "dim")


def _show_tree(console: Console, trace: Trace) -> None:
    """Print a line for each span: its name, its duration, and where in the trace it was."""
    services = {span.service for span in trace.spans}
    lines: list[tuple[Text, Span, str]] = []
    for span, guide, below in islice(_in_order(trace.spans, ascii_only(console)), _MAX_SPANS):
        service = f" ({span.service})" if len(services) > 1 else ""
        style = "red" if span.status == "ERROR" else ""
        name = Text(guide, "dim") + safe(span.name or "(no name)", style) + safe(service, "dim")
        lines.append((name, span, below))
    room = max(_NAME_COLUMNS, min(console.width, _MAX_COLUMNS) - _TOOK_COLUMNS - _BAR - 2)
    columns = min(room, max(name.cell_len for name, _, _ in lines))
    for name, span, below in lines:
        name.truncate(columns, overflow="ellipsis", pad=True)
        took = seconds((span.end - span.start) / SECOND).rjust(_TOOK_COLUMNS)
        console.print(name + Text(f"{took}  ") + _bar(console, span, trace), soft_wrap=True)
        for fact in _facts(span):
            console.print(Text(below, "dim") + fact, overflow="fold")


def ascii_only(console: Console) -> bool:
    """Return whether the terminal's encoding has no lines and blocks."""
    return not console.encoding.lower().startswith("utf")


def _in_order(spans: Sequence[Span], plain: bool) -> Iterator[tuple[Span, str, str]]:
    """Yield each span after its parent, with what stands before its name, and below that.

    A span without its parent in the trace stands at the top; so does one of spans that name each
    other as parents.
    """
    middle, last, through = ("|- ", "`- ", "|  ") if plain else ("├─ ", "└─ ", "│  ")
    ids = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in spans:
        children.setdefault(span.parent if span.parent in ids else "", []).append(span)
    seen: set[str] = set()
    pending = [(span, "", "", 0) for span in reversed(children.get("", []))]
    rest = iter(spans)
    while True:
        while pending:
            span, guide, below, depth = pending.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            inside = children.get(span.span_id, [])
            yield span, guide, below + (through if inside else "   ")
            if depth >= _MAX_DEPTH:
                pending += [(child, guide, below, depth) for child in reversed(inside)]
                continue
            for child in reversed(inside):
                is_last = child is inside[-1]
                pending.append((
                    child,
                    below + (last if is_last else middle),
                    below + ("   " if is_last else through),
                    depth + 1,
                ))  # fmt: skip
        left = next((span for span in rest if span.span_id not in seen), None)
        if left is None:
            return
        pending.append((left, "", "", 0))


def _bar(console: Console, span: Span, trace: Trace) -> Text:
    """Return where in the trace a span was."""
    whole = max(1.0, trace.seconds * SECOND)
    start = min(_BAR - 1, int((span.start - trace.start) / whole * _BAR))
    length = max(1, min(_BAR - start, round((span.end - span.start) / whole * _BAR)))
    return Text(" " * start + ("=" if ascii_only(console) else "━") * length, "cyan")


def _facts(span: Span) -> Iterator[Text]:
    """Yield lines below a span: of a response its tokens and cost, of a failure its reason."""
    values = span.attributes
    model = values.get(GEN_AI_REQUEST_MODEL)
    first, cost = number(values.get(TIME_TO_FIRST_TOKEN, "")), number(values.get(ANSWER_COST, ""))
    facts = [
        str(model) if model and str(model) not in span.name else None,
        tokens(values),
        money(cost) if cost is not None else None,
        f"first token {seconds(first)}" if first is not None else None,
    ]
    if shown := joined(facts):
        yield shown
    reasons = [values.get(ERROR_TYPE), values.get(ERROR_MESSAGE) or span.status_message]
    if span.status == "ERROR" or values.get(ERROR_TYPE):
        yield joined(safe(reason, "red") for reason in dict.fromkeys(reasons) if reason)


def _sums(trace: Trace) -> Iterator[str]:
    outcomes = {str(value) for s in trace.spans if (value := s.attributes.get(ANSWER_OUTCOME))}
    yield ", ".join(sorted(outcomes))
    named = (GEN_AI_USAGE_INPUT_TOKENS, GEN_AI_USAGE_OUTPUT_TOKENS)
    yield tokens({name: total for name in named if (total := trace.total(name)) is not None})
    if (cost := trace.total(ANSWER_COST)) is not None:
        yield money(cost)
    yield f"{len(trace.spans)} spans, {len(trace.records)} log records"
