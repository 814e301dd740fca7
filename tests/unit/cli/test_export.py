"""`chatscope export`, which reads from a real Loki."""

import io
import json
import re
import shlex
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chatscope.cli.loki import Line, Loki, one_of, selector
from chatscope.cli.main import main
from chatscope.cli.times import as_text, point_in_time
from stack.facts import ROOT
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS
from tests.stores import running_tempo
from tests.talks import TALKS, talk

# One Loki for all tests of this file.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("export")]
_ALL = {"c-1", "c-2", "hi"}
_PAGE = (ROOT / "docs" / "exporting.md").read_text()


@dataclass(frozen=True)
class Done:
    """What a run of the command has left."""

    returncode: int
    stdout: str
    stderr: str


def _export(url: str, *options: str) -> Done:
    """Run the command in this process: starting one takes longer than most exports."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            code = main(["export", "--loki-url", url, *options])
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, stdout.getvalue(), stderr.getvalue())


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def _names(text: str) -> list[str]:
    """The conversation of each line; of one without an ID, what the model said."""
    return [
        line["metadata"].get("conversation_id") or line["messages"][-1]["content"]
        for line in _lines(text)
    ]


def test_conversation_is_one_line_in_openai_format(loki: str) -> None:
    done = _export(loki, "--conversation", "c-1")
    assert done.returncode == 0, done.stderr
    [line] = _lines(done.stdout)
    metadata = line.pop("metadata")
    assert line == {
        "messages": [*TALKS[2]["messages"], TALKS[2]["said"]],
        "tools": TALKS[0]["tools"],
    }
    first, last = point_in_time(metadata.pop("first")), point_in_time(metadata.pop("last"))
    assert time.time_ns() - 10**12 < first < last < time.time_ns()
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in metadata["trace_ids"])
    assert len(metadata.pop("trace_ids")) == 2
    assert metadata == {
        "conversation_id": "c-1",
        "user_id": "ann",
        "service": "talks",
        "models": ["gpt-4o"],
        "providers": ["openai"],
        "outcome": "completed",
        "turns": 2,
        "input_tokens": 200,
        "output_tokens": 40,
        "cost": pytest.approx(0.0009),
        "ratings": [{"name": "user_feedback", "label": "bad", "comment": "I still froze."}],
    }


def test_command_runs_as_a_process_and_its_reader_may_end_early(loki: str) -> None:
    command = [sys.executable, "-m", "chatscope", "export", "--loki-url", loki]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=240, check=True)
    assert len(done.stdout.splitlines()) == 3
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, report = process.communicate(timeout=240)
    assert process.returncode == 1
    assert b"Traceback" not in report
    assert b"Exception" not in report


def test_conversations_are_in_the_order_of_their_last_response(loki: str) -> None:
    done = _export(loki)
    assert _names(done.stdout) == ["hi", "c-1", "c-2"]
    assert "3 conversations exported" in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--user", "ann"), {"c-1", "c-2"}),
        (("--user", "an"), set()),
        (("--model", "gpt-4o-mini"), {"hi"}),
        (("--outcome", "failed"), {"c-2"}),
        (("--rating", "bad"), {"c-1"}),
        (("--rating", "bad", "--user", "ben"), set()),
        (("--service", "talks", "--service", "x"), _ALL),
        (("--service", "t.*"), set()),
        (("--since", "1h", "--until", "10m"), set()),
        (("--limit", "1"), {"hi"}),
    ],
)
def test_conversations_are_selected(loki: str, options: tuple[str, ...], expected: Any) -> None:
    done = _export(loki, *options)
    assert done.returncode == 0, done.stderr
    assert set(_names(done.stdout)) == expected


def test_interrupted_export_is_continued(loki: str, tmp_path: Path) -> None:
    output = tmp_path / "talks.jsonl"
    options = ("--limit", "1", "--output", str(output), "--cursor-file", str(tmp_path / "cursor"))
    for count in (1, 2, 3, 3):
        assert _export(loki, *options).returncode == 0
        assert len(output.read_text().splitlines()) == count
    assert _names(output.read_text()) == ["hi", "c-1", "c-2"]


def test_cursor_in_the_report_continues_the_export(loki: str) -> None:
    found = re.search("--after '(.+)'", _export(loki, "--limit", "2").stderr)
    assert found
    assert _names(_export(loki, "--after", found[1]).stdout) == ["c-2"]


def test_pages_have_each_line_once(loki: str) -> None:
    now = time.time_ns()

    def read(page: int) -> list[Line]:
        found = Loki(loki, {}, page).lines(selector(["talks"]), now - 10**12, now)
        return sorted(found, key=lambda line: (line.time, line.text))

    assert read(1) == read(2) == read(3) == read(5000)
    assert len(read(1)) == 10


def test_names_are_no_patterns_and_need_no_care(loki: str) -> None:
    for name in ('"', "a|talks", "ta.ks", "`", "\\", "ü\n"):
        now = time.time_ns()
        assert list(Loki(loki, {}).lines(selector([name]), now - 10**12, now)) == []
    assert one_of(["a.b", 'c"']) == '"a\\\\.b|c\\""'


def test_commands_of_the_page_run(
    loki: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    assert len(commands) > 4
    for command in commands:
        words = shlex.split(command)
        assert words[:2] == ["chatscope", "export"]
        options = words[2 : words.index(">") if ">" in words else None]
        done = _export(loki, *options)
        assert done.returncode == 0, f"{command}: {done.stderr}"


def test_options_of_the_page_are_those_of_the_command() -> None:
    documented = set(re.findall(r"`(--[a-z-]+)`", _PAGE.partition("## Lines")[0]))
    shown = _export("http://127.0.0.1:1", "--help").stdout
    assert documented == set(re.findall(r"(?m)^\s+(--[a-z-]+)", shown))


def test_conversation_without_captured_text_is_left_out(loki: str) -> None:
    silent = [{**TALKS[1], "conversation_id": "c-silent"}]
    talk(loki, silent, capture="NO_CONTENT")
    done = _export(loki, "--conversation", "c-silent")
    assert done.stdout == ""
    assert "1 without captured text left out" in done.stderr


def test_texts_on_spans_are_read_from_tempo(loki: str, tmp_path: Path) -> None:
    named = [{**each, "conversation_id": "c-span"} for each in (TALKS[0], TALKS[2])]
    with running_tempo(tmp_path) as (tempo, otlp):
        talk(loki, named, capture="SPAN_ONLY", traces_url=otlp)

        def exported() -> list[dict[str, Any]]:
            done = _export(loki, "--conversation", "c-span", "--tempo-url", tempo)
            assert done.returncode == 0, done.stderr
            lines = _lines(done.stdout)
            return lines if lines and len(lines[0]["messages"]) > 3 else []

        [line] = poll_until(exported, "the spans", PATIENCE_SECONDS, 0.2)
    assert line["messages"] == [*TALKS[2]["messages"], TALKS[2]["said"]]
    assert line["tools"] == TALKS[0]["tools"]


def test_unreachable_tempo_is_reported(loki: str) -> None:
    talk(loki, [{**TALKS[1], "conversation_id": "c-unseen"}], capture="NO_CONTENT")
    done = _export(loki, "--conversation", "c-unseen", "--tempo-url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "chatscope: Tempo at http://127.0.0.1:1" in done.stderr


def test_unreachable_loki_is_reported() -> None:
    done = _export("http://127.0.0.1:1")
    assert done.returncode == 1
    assert "chatscope: Loki at http://127.0.0.1:1/" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--since", "yesterday"), "a duration before now such as 24h or 7d (got 'yesterday')"),
        (("--limit", "0"), "must be an integer >= 1 (got '0')"),
        (("--header", "x"), "must be 'NAME: VALUE' (got 'x')"),
        (("--outcome", "bad"), "completed"),
    ],
)
def test_invalid_option_names_what_is_accepted(options: tuple[str, ...], text: str) -> None:
    done = _export("http://127.0.0.1:1", *options)
    assert done.returncode == 2
    assert text in done.stderr


def test_broken_cursor_file_is_reported(tmp_path: Path) -> None:
    cursor = tmp_path / "cursor"
    cursor.write_text("x")
    done = _export("http://127.0.0.1:1", "--cursor-file", str(cursor))
    assert done.returncode == 1
    assert f"{cursor} has no valid cursor" in done.stderr


def test_times_keep_their_nanoseconds() -> None:
    for text in ("2026-11-28T12:00:00.495834517Z", "1970-01-01T00:00:01.000000001Z"):
        assert as_text(point_in_time(text)) == text
    assert point_in_time("2026-11-28T12:00:00+01:00") == point_in_time("2026-11-28T11:00:00")
    assert point_in_time("2h") == pytest.approx(time.time_ns() - 7200 * 10**9, abs=10**10)
