"""The commands that read log records, on a real Loki."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from chatscope.cli import commands
from stack.facts import ROOT
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS
from tests.talks import TALKS, talk

# One Loki for all tests of this file.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("reading")]
_EVIL = "\x1b]0;owned\x07\x9b2J\u202etxt"
_ESCAPED = r"\x1b]0;owned\x07\x9b2J\u202etxt"


@pytest.fixture(autouse=True)
def _addresses(loki: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATSCOPE_LOKI_URL", loki)
    # Set for the workers of pytest-xdist: whole lines only come without it.
    monkeypatch.delenv("COLUMNS", raising=False)


def _shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert commands.run(words) == 0
    return capsys.readouterr().out


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> list[Any]:
    shown = _shown(capsys, *words, "--json")
    assert shown.isascii()
    return [json.loads(line) for line in shown.splitlines()]


def test_logs_are_the_newest_records_in_the_order_of_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = _json(capsys, "logs", "--service", "talks", "--search", "answer ")
    assert len(records) >= 4
    assert [each["time"] for each in records] == sorted(each["time"] for each in records)
    newest = _json(capsys, "logs", "--service", "talks", "--search", "answer ", "--limit", "2")
    assert newest == records[-2:]
    assert _json(capsys, "logs", "--service", "nobody") == []
    assert "No log records in this time." in _shown(capsys, "logs", "--service", "nobody")


def test_logs_are_selected_by_level_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    [failed] = _json(capsys, "logs", "--service", "talks", "--level", "error")
    assert failed["text"] == "answer failed"
    trace_id = failed["fields"]["trace_id"]
    of_trace = _json(capsys, "logs", "--trace", trace_id.lstrip("0"))
    assert {each["fields"]["trace_id"] for each in of_trace} == {trace_id}
    assert failed in of_trace


def test_line_has_the_facts_of_its_response(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _shown(capsys, "logs", "--service", "talks", "--search", "answer completed")
    line = next(line for line in shown.splitlines() if "gpt-4o-mini" in line)
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} INFO +talks answer completed · gpt-4o-mini · ", line)
    assert re.search(r" · 100 \+ 20 tokens · \$0\.\d{6} · trace [0-9a-f]{32}$", line)


def test_followed_logs_show_new_records(loki: str) -> None:
    command = [sys.executable, "-m", "chatscope", "logs", "--follow", "--json", "--limit", "1"]
    with subprocess.Popen(
        [*command, "--service", "talks"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        shown: list[str] = []
        reader = threading.Thread(target=lambda: shown.extend(process.stdout or ()))
        reader.start()
        poll_until(lambda: shown, "the newest record", PATIENCE_SECONDS)
        talk(loki, [{**TALKS[1], "user_id": "followed"}])
        poll_until(lambda: "followed" in "".join(shown), "the new record", PATIENCE_SECONDS)
        process.terminate()
        reader.join()
    records = [json.loads(line) for line in shown]
    assert len({json.dumps(record) for record in records}) == len(records)


def test_errors_are_grouped_with_their_reason(
    loki: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = {**TALKS[3], "model": "grouped", "error": "timeout", "conversation_id": "c-errors"}
    talk(loki, [failing, failing, {**failing, "error": "server_error"}])

    def found() -> list[Any]:
        [groups] = _json(capsys, "errors", "--since", "10m")
        mine = [e for e in groups if e["fields"].get("gen_ai_request_model") == "grouped"]
        return mine if len(mine) == 2 else []

    groups = poll_until(found, "the errors", PATIENCE_SECONDS)
    assert [each["count"] for each in groups] == [2, 1]
    assert groups[0]["text"] == "answer failed"
    assert groups[0]["fields"]["error_type"] == "timeout"
    assert re.fullmatch("[0-9a-f]{32}", groups[0]["trace_id"])
    shown = _shown(capsys, "errors", "--since", "10m")
    assert re.search(r"(?m)^ +2  \d\d:.* talks · answer failed · grouped · timeout$", shown)
    assert f"chatscope trace {groups[0]['trace_id']}" in shown
    assert _shown(capsys, "errors", "--service", "nobody") == "No errors in this time.\n"


def test_conversation_is_shown_turn_by_turn(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _shown(capsys, "conversation", "c-1")
    lines = shown.splitlines()
    assert lines[0] == "Conversation c-1"
    assert lines[1] == "talks · ann · 2 turns"
    said = [line for line in lines if re.match("(user|assistant|tool): ", line)]
    assert said == [
        "user: Do I need a coat in Rome?",
        'assistant: [weather: {"city": "Rome"}]',
        "tool: 21 degrees",
        "assistant: No, it is warm.",
    ]
    assert "200 + 40 tokens · $0.000900" in lines
    assert re.search(r"gpt-4o · completed · 100 \+ 20 tokens · .* · rated bad · trace", shown)


def test_conversation_in_json_is_that_of_an_export(capsys: pytest.CaptureFixture[str]) -> None:
    [found] = _json(capsys, "conversation", "c-1")
    exported = json.loads(_shown(capsys, "export", "--conversation", "c-1"))
    assert found["messages"] == exported["messages"]
    assert found["metadata"] == exported["metadata"]


def test_conversation_without_an_id_is_that_of_its_trace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    talks = _json(capsys, "logs", "--service", "talks", "--search", "answer completed")
    [trace_id] = {
        fields["trace_id"]
        for fields in (each["fields"] for each in talks)
        if fields.get("user_id") == "ben" and "gen_ai_conversation_id" not in fields
    }
    assert "assistant: hi" in _shown(capsys, "conversation", trace_id)


def test_conversation_without_texts_says_how_they_are_captured(
    loki: str, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(loki, [{**TALKS[1], "conversation_id": "c-quiet"}], capture="NO_CONTENT")

    def found() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "chatscope", "conversation", "c-quiet"],
            cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        return done.stdout

    shown = poll_until(found, "the conversation", PATIENCE_SECONDS)
    assert "completed · 100 + 20 tokens" in shown
    assert "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT" in shown


def _on_a_terminal(*words: str, **environ: str) -> str:
    """What the command sends to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "chatscope", *words],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    sent = b""
    while True:
        try:
            sent += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait(60) == 0, sent
    return sent.decode()


@pytest.fixture(scope="module")
def evil(loki: str) -> str:
    """The ID of a conversation whose texts are hostile."""
    hostile = {
        "conversation_id": "c-evil", "user_id": "eve", "model": "evil",
        "messages": [{"role": "user", "content": _EVIL}],
        "said": {"role": "assistant", "content": f"[bold]{_EVIL}[/]\nsecond line"},
    }  # fmt: skip
    talk(loki, [hostile, {**hostile, "said": None, "error": _EVIL}])
    return "c-evil"


@pytest.mark.parametrize(
    "words",
    [
        ("conversation", "c-evil"),
        ("errors",),
        ("logs", "--service", "talks"),
        ("logs", "--service", "talks", "--json"),
        ("export", "--conversation", "c-evil"),
    ],
    ids=" ".join,
)
def test_no_text_commands_the_terminal(evil: str, words: tuple[str, ...]) -> None:
    def shown() -> str:
        sent = _on_a_terminal(*words)
        return sent if "owned" in sent else ""

    sent = poll_until(shown, "the hostile text", PATIENCE_SECONDS)
    # All that is left are rich's own colours.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", sent)
    assert not set(plain) & set("\x1b\x07\x9b\u202e")


def test_text_is_shown_as_it_is_without_markup(
    evil: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = _shown(capsys, "conversation", evil)
    assert f"user: {_ESCAPED}\n" in shown
    assert f"assistant: [bold]{_ESCAPED}[/]\nsecond line\n" in shown


def test_terminal_has_colours_unless_no_color_is_set(loki: str) -> None:
    words = ("logs", "--service", "talks", "--level", "error")
    assert "\x1b[31m" in _on_a_terminal(*words)
    plain = _on_a_terminal(*words, NO_COLOR="1")
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 80


def test_reader_that_ends_early_gets_no_traceback(loki: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m chatscope logs | head -1"],
        cwd=ROOT,
        env={**os.environ, "CHATSCOPE_LOKI_URL": loki},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_state_of_the_directory_names_the_loki(
    loki: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CHATSCOPE_LOKI_URL")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "facts.json").write_text(json.dumps({"LOKI_URL": loki}))
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    assert _json(capsys, "logs", "--service", "talks", "--limit", "1")
