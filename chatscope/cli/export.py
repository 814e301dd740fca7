"""`chatscope export`: recorded conversations as JSON lines in OpenAI's chat format."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from chatscope.cli.addresses import LOKI, TEMPO, Addresses
from chatscope.cli.backend import header
from chatscope.cli.conversations import Conversation, as_object, grouped
from chatscope.cli.errors import CommandError
from chatscope.cli.loki import Loki, one_of, selector
from chatscope.cli.responses import Response, add_texts, facts_of_responses, ratings, responses
from chatscope.cli.tempo import Tempo
from chatscope.cli.times import DAY, as_text, point_in_time
from chatscope.names import GEN_AI_CONVERSATION_ID, GEN_AI_REQUEST_MODEL, USER_ID, prometheus_label

NAME: Final = "export"
HELP: Final = "Write recorded conversations as JSON lines in OpenAI's chat format."
# Conversations that are read at a time.
_PAGE: Final = 50


class Cursor(NamedTuple):
    """The last conversation of an export: its last activity in ns, and its key."""

    time: int
    key: str = ""

    def __str__(self) -> str:
        return f"{as_text(self.time)}/{self.key}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    when = "a time such as 2026-11-28T12:00:00Z, or a duration before now such as 24h or 7d"
    where = parser.add_argument_group("source")
    where.add_argument("--loki-url", metavar="URL", help=f"default: {LOKI.default}")
    where.add_argument(
        "--tempo-url", metavar="URL", help="a Tempo, for texts that are captured on spans only"
    )
    where.add_argument(
        "--header",
        type=header,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a header for both, such as X-Scope-OrgID or Authorization; repeatable",
    )
    where.add_argument(
        "--service", action="append", default=[], help="name of a service; repeatable; default: all"
    )
    which = parser.add_argument_group("conversations")
    which.add_argument("--since", type=point_in_time, metavar="TIME", help=f"{when}; default: 24h")
    which.add_argument("--until", type=point_in_time, metavar="TIME", help="default: now")
    which.add_argument("--conversation", metavar="ID", help="with this ID")
    which.add_argument("--user", metavar="ID", help="with a response to this user")
    which.add_argument("--model", metavar="NAME", help="with a response of this model")
    which.add_argument(
        "--outcome",
        choices=("completed", "failed", "cancelled"),
        help="with a response that ended so",
    )
    which.add_argument("--rating", metavar="LABEL", help="with a rating: good, bad or another one")
    which.add_argument("--limit", type=_positive, metavar="N", help="at most N conversations")
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=Path, metavar="FILE", help="append to FILE")
    output.add_argument(
        "--after", type=_cursor, metavar="CURSOR", help="continue after this cursor, or this time"
    )
    output.add_argument(
        "--cursor-file",
        type=Path,
        metavar="FILE",
        help="continue after the cursor in FILE, if it exists, and keep it up to date",
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the conversations; report the cursor on standard error. Raise CommandError."""
    cursor = arguments.after or _read_cursor(arguments.cursor_file)
    headers = dict(arguments.header)
    where = Addresses(os.environ, Path.cwd())
    url = where.url(LOKI, arguments.loki_url)
    loki = Loki(url, where.headers(LOKI, url, headers))
    tempo = None
    if url := arguments.tempo_url:
        tempo = Tempo(url, where.headers(TEMPO, url.rstrip("/"), headers))
    streams = selector(arguments.service)
    until = arguments.until or time.time_ns()
    since = arguments.since or (cursor.time if cursor else until) - DAY
    chosen = [
        conversation
        for conversation in _found(loki, streams, since, until)
        if (cursor is None or _cursor_of(conversation) > cursor)
        and _is_wanted(conversation, arguments)
    ][: arguments.limit]
    written = without_text = 0
    with _opened(arguments.output) as output:
        for start in range(0, len(chosen), _PAGE):
            page = chosen[start : start + _PAGE]
            for conversation in _read(loki, streams, page):
                if tempo:
                    add_texts(tempo, conversation.responses)
                if (found := as_object(conversation)) is None:
                    without_text += 1
                    continue
                # A terminal is no place for control characters of a text.
                output.write(json.dumps(found, ensure_ascii=output.isatty()) + "\n")
                written += 1
            output.flush()
            cursor = _cursor_of(page[-1])
            _write_cursor(arguments.cursor_file, cursor)
    _report(written, without_text, cursor)


def _found(loki: Loki, streams: str, since: int, until: int) -> list[Conversation]:
    """Return the conversations with their facts, without their texts."""
    # A rating comes after its response, maybe after the time that is exported.
    now = max(until, time.time_ns())
    rated = list(ratings(loki, streams, since, now))
    return grouped(facts_of_responses(loki, streams, since, until), rated)


def _is_wanted(conversation: Conversation, arguments: argparse.Namespace) -> bool:
    wanted = {
        USER_ID: arguments.user,
        GEN_AI_REQUEST_MODEL: arguments.model,
        GEN_AI_CONVERSATION_ID: arguments.conversation,
    }
    outcomes = {response.outcome for response in conversation.responses}
    labels = {rating.label for rating in conversation.ratings}
    return (
        all(not value or value in conversation.values(name) for name, value in wanted.items())
        and arguments.outcome in (None, *outcomes)
        and arguments.rating in (None, *labels)
    )


def _read(loki: Loki, streams: str, page: Sequence[Conversation]) -> Iterator[Conversation]:
    """Yield the conversations of a page with their texts."""
    start = min(conversation.first for conversation in page)
    end = max(conversation.last for conversation in page) + 1
    texts: dict[tuple[str, str], Response] = {}
    for name, keys in (
        (prometheus_label(GEN_AI_CONVERSATION_ID), [c.key for c in page if c.has_id]),
        ("trace_id", [c.key for c in page if not c.has_id]),
    ):
        if keys:
            # The event with the texts is written just before the record of the response.
            found = responses(loki, streams, f"{name}=~{one_of(keys)}", start - _EVENT_BEFORE, end)
            texts.update({(each.trace_id, each.span_id): each for each in found})
    for conversation in page:
        read = [texts.get((each.trace_id, each.span_id), each) for each in conversation.responses]
        yield Conversation(conversation.key, read, conversation.ratings)


# ns; the clock may have been set back meanwhile.
_EVENT_BEFORE: Final = 1_000_000_000


def _cursor_of(conversation: Conversation) -> Cursor:
    return Cursor(conversation.last, conversation.key)


def _report(written: int, without_text: int, cursor: Cursor | None) -> None:
    report = f"{written} conversations exported"
    if without_text:
        report += f", {without_text} without captured text left out"
    if cursor:
        report += f"; continue with --after '{cursor}'"
    print(report, file=sys.stderr)


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
    with file:
        yield file


def _read_cursor(path: Path | None) -> Cursor | None:
    if path is None or not path.exists():
        return None
    try:
        return _cursor(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError, argparse.ArgumentTypeError) as error:
        raise CommandError(f"{path} has no valid cursor: {error}") from None


def _write_cursor(path: Path | None, cursor: Cursor) -> None:
    if path is None:
        return
    try:
        new = path.with_name(f"{path.name}.new")
        new.write_text(f"{cursor}\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


def _cursor(text: str) -> Cursor:
    when, _, key = text.partition("/")
    return Cursor(point_in_time(when), key)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be an integer >= 1 (got {text!r})")
    return int(text)
