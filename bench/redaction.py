"""Cost of redaction per record, and how much ordinary text it changes.

    python -m bench.redaction
    python -m bench.redaction --text DIRECTORY …    # files that are searched for false positives
    python -m bench.redaction --examples            # with each place that was changed

Cost: CPU time to encode a typical log record of a response, a server span, and texts of several
lengths, with all kinds of redaction and without. Ordinary text: by default the documentation,
licences and sources that come with this Python and its packages.
"""

import argparse
import os
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags
from rich.table import Table

from chatscope.otlp import redact_with
from chatscope.otlp.log_records import encode_plain, plain_attributes
from chatscope.otlp.spans import encode_span
from chatscope.redaction import Redactor
from stack.terminal import Terminal

_REPEATS: Final = 7
_PER_REPEAT: Final = 2_000
_SUFFIXES: Final = (".txt", ".rst", ".md", ".py", ".go", ".html")
_NAMES: Final = ("LICENSE", "LICENCE", "METADATA", "copyright")
_LARGEST: Final = 400_000  # characters of one file
# Characters of an example before and after the first change of a line.
_BEFORE, _AFTER = 50, 90
_PROSE: Final = "The model's answer has words, numbers such as 42, and a name or two. "
_RESOURCE: Final = Resource({"service.name": "shop"})
_CONTEXT: Final = SpanContext(2**127 + 1, 2**63 + 1, is_remote=False, trace_flags=TraceFlags(1))


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU to encode one record."""

    without: float
    redacted: float

    @property
    def ratio(self) -> float:
        """Time with redaction, relative to the time without."""
        return self.redacted / self.without


def _log_record() -> bytes:
    """Return the record of a response, like the service's, with unique IDs."""
    attributes = plain_attributes(
        {
            "gen_ai.conversation.id": f"conv-{uuid4()}",
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.response.id": f"chatcmpl-{uuid4().hex}",
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
            "gen_ai.usage.input_tokens": 120,
            "gen_ai.usage.output_tokens": 340,
            "chatscope.cost": 0.00042,
            "duration": 1.234,
            "user.id": "user-42",
            "code.file.path": "/srv/app/domain/turn.py",
            "code.function.name": "app.domain.turn.Turn.run",
            "code.line.number": 210,
        }
    )
    severity = (SeverityNumber.INFO, "INFO")
    return encode_plain((1, 2), severity, "answer finished", attributes or b"", _CONTEXT, None)


def _span() -> bytes:
    """Return the server span of a request with a unique client."""
    return encode_span(
        ReadableSpan(
            name="POST /v1/chat/completions",
            resource=_RESOURCE,
            context=_CONTEXT,
            start_time=1,
            end_time=2,
            attributes={
                "http.request.method": "POST",
                "http.route": "/v1/chat/completions",
                "http.response.status_code": 200,
                "url.path": "/v1/chat/completions",
                "url.scheme": "http",
                "server.address": "127.0.0.1",
                "server.port": 3000,
                "client.address": "203.0.113.7",
                "client.port": 20_000 + int(time.perf_counter() * 1e6) % 40_000,
                "user_agent.original": f"openai-python/2.9 (Linux; x86_64) {uuid4().hex[:6]}",
                "network.protocol.version": "1.1",
                "gen_ai.response.id": f"chatcmpl-{uuid4().hex}",
            },
        )
    )


def _text(length: int) -> Callable[[], bytes]:
    text = (_PROSE * (length // len(_PROSE) + 1))[:length]
    severity = (SeverityNumber.INFO, "INFO")
    return lambda: encode_plain((1, 2), severity, text, b"", _CONTEXT, None)


RECORDS: Final[Mapping[str, Callable[[], bytes]]] = {
    "log record of a response": _log_record,
    "span of a request": _span,
    "log record, 100 characters": _text(100),
    "log record, 1,000 characters": _text(1_000),
    "log record, 10,000 characters": _text(10_000),
    "log record, 100,000 characters": _text(100_000),
}


def measure(record: Callable[[], bytes], repeats: int = _REPEATS, calls: int = 0) -> Cost:
    """Measure a record alternately with and without redaction; use the fastest of `repeats`."""
    if not calls:
        started = time.process_time()
        for _ in range(10):
            record()
        calls = max(3, min(_PER_REPEAT, int(2 / max(1e-6, time.process_time() - started))))
    redactor = Redactor()
    found: dict[bool, list[float]] = {False: [], True: []}
    try:
        for _ in range(repeats):
            for on in (False, True):
                redact_with(redactor if on else None)
                record()
                started = time.process_time()
                for _ in range(calls):
                    record()
                found[on].append((time.process_time() - started) / calls * 1e6)
    finally:
        redact_with(None)
    return Cost(min(found[False]), min(found[True]))


@dataclass(frozen=True)
class Changed:
    """Redactions found in ordinary text."""

    lines: int
    characters: int
    marks: Mapping[str, int]
    # The mark, the file and the part of the line.
    examples: Sequence[tuple[str, str, str]]


def search(files: Iterator[Path], limit: float) -> Changed:
    """Redact the lines of files for at most `limit` seconds."""
    redactor = Redactor()
    lines = characters = 0
    marks: Counter[str] = Counter()
    examples: list[tuple[str, str, str]] = []
    end = time.monotonic() + limit
    for path in files:
        if time.monotonic() > end:
            break
        try:
            text = path.read_text("utf-8")[:_LARGEST]
        except (OSError, UnicodeDecodeError):
            continue
        characters += len(text)
        for line in text.splitlines():
            lines += 1
            shown = redactor.text(line)
            if shown == line:
                continue
            found = [part.partition(">")[0] for part in shown.split("<redacted ")[1:]]
            marks.update(found)
            start = len(shown.partition("<redacted ")[0])
            part = line[max(0, start - _BEFORE) : start + _AFTER].strip()
            examples += [(mark, str(path), part) for mark in sorted(set(found))]
    return Changed(lines, characters, marks, examples)


def ordinary_files(directories: Sequence[Path]) -> Iterator[Path]:
    """Yield documentation, licences and sources below the directories."""
    for directory in directories:
        for folder, _, names in os.walk(directory):
            for name in names:
                if name.endswith(_SUFFIXES) or name.startswith(_NAMES):
                    yield Path(folder, name)


def _shipped() -> list[Path]:
    paths = sysconfig.get_paths()
    return [Path(paths["purelib"]), Path(paths["stdlib"])]


def main(arguments: Sequence[str]) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.redaction", description=__doc__)
    parser.add_argument("--text", nargs="+", type=Path, help="directories of ordinary text")
    parser.add_argument("--seconds", type=float, default=60.0, help="limit of the search")
    parser.add_argument("--examples", action="store_true", help="print the redacted lines")
    options = parser.parse_args(arguments)
    console: Any = Terminal()
    table = Table("record", "without, µs", "redacted, µs", "difference, µs", "ratio")
    for name, record in RECORDS.items():
        cost = measure(record)
        figures = (cost.without, cost.redacted, cost.redacted - cost.without, cost.ratio)
        table.add_row(name, *(f"{figure:.2f}" for figure in figures))
    console.print(table)
    found = search(ordinary_files(options.text or _shipped()), options.seconds)
    table = Table("found in ordinary text", "times", "of a million lines")
    for name, count in sorted(found.marks.items()):
        table.add_row(name, str(count), f"{count / found.lines * 1e6:.1f}")
    console.print(table)
    console.print(f"{found.lines:,} lines, {found.characters:,} characters")
    for example in sorted(found.examples) if options.examples else ():
        console.print(": ".join(example), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main(sys.argv[1:])
