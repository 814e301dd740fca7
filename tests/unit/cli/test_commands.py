"""The command `chatscope` itself: help, options, what it needs, and how it fails."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chatscope.cli import commands
from chatscope.cli.addresses import COLLECTOR, PLACES, Addresses
from chatscope.cli.errors import CommandError
from chatscope.cli.records import LEVELS
from stack import facts
from stack.facts import ROOT

_NAMES = (
    "doctor", "trace", "logs", "top", "errors", "conversation", "export", "chat", "feedback",
)  # fmt: skip
# Each that asks a backend, without more than it needs.
_ASKING = {
    "trace": ("trace", "ab" * 16),
    "logs": ("logs",),
    "top": ("top",),
    "errors": ("errors",),
    "conversation": ("conversation", "c-1"),
    "export": ("export",),
    "chat": ("chat", "hello"),
    "feedback": ("feedback", "ab" * 16, "good"),
}
_NOWHERE = {place.variable: "http://127.0.0.1:9" for place in PLACES}


def _run(*words: str, code: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
    start = ["-c", code] if code else ["-m", "chatscope"]
    return subprocess.run(
        [sys.executable, *start, *words],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert commands.run(words) == 0
    return capsys.readouterr().out


def test_help_has_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _shown(capsys, "--help")
    listed = re.findall(r"(?m)^│ ([a-z]+)  ", shown)
    assert sorted(listed) == sorted(_NAMES)


@pytest.mark.parametrize("name", ["", *_NAMES])
def test_help_fits_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = _shown(capsys, *filter(None, [name]), "--help")
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("name", [name for name in _NAMES if name != "export"])
def test_every_command_prints_json_on_request(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An export is JSON anyway."""
    assert "--json" in _shown(capsys, name, "--help")


@pytest.mark.slow
@pytest.mark.parametrize("words", _ASKING.values(), ids=list(_ASKING))
def test_unreachable_component_is_named(words: tuple[str, ...]) -> None:
    done = _run(*words, **_NOWHERE)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(r"chatscope: .*127\.0\.0\.1:9.*[Cc]onnection refused", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("logs", "--since", "tomorrow"), "such as 24h or 7d"),
        (("logs", "--trace", "x"), "32 hex digits"),
        (("errors", "--header", "x"), "NAME: VALUE"),
        (("logs", "--level", "loud"), "debug"),
        (("feedback", "x"), "label"),
        (("nothing",), "nothing"),
    ],
    ids=str,
)
def test_invalid_argument_names_what_is_accepted(words: tuple[str, ...], text: str) -> None:
    done = _run(*words, **_NOWHERE)
    assert done.returncode == 2
    assert text in re.sub(r"[│\s]+", " ", done.stderr)


@pytest.mark.slow
def test_window_and_address_are_checked() -> None:
    done = _run("top", "--window", "1m])", **_NOWHERE)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--window must be a duration such as 1m or 1h (got '1m])')" in done.stderr
    done = _run("logs", CHATSCOPE_LOKI_URL="loki:3100")
    assert "CHATSCOPE_LOKI_URL must be a URL such as http://127.0.0.1:3100" in done.stderr


_WITHOUT = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name.partition(".")[0] in ("rich", "typer", "websockets") else found(name, *rest)
)
from chatscope.cli.main import main
code = main(sys.argv[1:])
assert not {"rich", "typer", "websockets"} & set(sys.modules)
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("doctor",), ("--help",)], ids=str)
def test_without_the_extra_it_says_which_to_install(words: tuple[str, ...]) -> None:
    done = _run(*words, code=_WITHOUT)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'chatscope[cli]'" in done.stderr


@pytest.mark.slow
def test_export_needs_no_extra() -> None:
    done = _run("export", "--help", code=_WITHOUT)
    assert done.returncode == 0, done.stderr
    assert "usage: chatscope export" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completes_commands(shell: str) -> None:
    variable = {"bash": "COMP_WORDS", "zsh": "_TYPER_COMPLETE_ARGS", "fish": "_TYPER_COMPLETE_ARGS"}
    done = _run(
        _CHATSCOPE_COMPLETE=f"complete_{shell}",
        COMP_CWORD="1",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        **{variable[shell]: "chatscope con"},
    )
    assert "conversation" in done.stdout, done.stderr


def test_defaults_are_the_stacks_addresses() -> None:
    stack = facts.load({})
    for place in PLACES:
        assert place.fact in stack
        if place is not COLLECTOR:
            assert place.default == stack[place.fact]


def test_levels_are_those_of_records() -> None:
    assert [level.value for level in commands.Level] == list(LEVELS)


def test_option_counts_more_than_variable_stack_and_default(tmp_path: Path) -> None:
    (tmp_path / ".chatscope" / "run").mkdir(parents=True)
    (tmp_path / ".chatscope" / "run" / "facts.json").write_text(
        json.dumps({"LOKI_URL": "http://stack:1/"})
    )
    loki = next(place for place in PLACES if place.name == "Loki")
    variable = {"CHATSCOPE_LOKI_URL": "http://variable:1"}
    assert Addresses(variable, tmp_path).url(loki, "http://option:1") == "http://option:1"
    assert Addresses(variable, tmp_path).url(loki) == "http://variable:1"
    assert Addresses({}, tmp_path).url(loki) == "http://stack:1"
    assert Addresses({"STATE_DIR": "elsewhere"}, tmp_path).url(loki) == loki.default
    with pytest.raises(CommandError, match="CHATSCOPE_LOKI_URL must be a URL"):
        Addresses({}, tmp_path).url(loki, "loki:3100")


def test_login_of_the_running_stack_is_sent_to_its_own_backends_only(tmp_path: Path) -> None:
    loki = next(place for place in PLACES if place.name == "Loki")
    secrets = tmp_path / "run" / "secrets" / "operator"
    secrets.mkdir(parents=True)
    (secrets / "basic").write_text("Basic abc\n")
    (secrets / "otlp_headers").write_text("authorization=Bearer x\n")
    facts_file = {"LOKI_URL": "http://stack:1", "SECRETS_DIR": str(secrets.parent)}
    (tmp_path / "run" / "facts.json").write_text(json.dumps(facts_file))
    where = Addresses({"STATE_DIR": str(tmp_path)}, tmp_path)
    login = {"authorization": "Basic abc"}
    assert where.headers(loki, where.url(loki), {"x": "y"}) == {**login, "x": "y"}
    assert where.headers(loki, "http://other:1", {"x": "y"}) == {"x": "y"}
    assert where.telemetry_headers_file() == secrets / "otlp_headers"
    (secrets / "basic").unlink()
    (secrets / "otlp_headers").unlink()
    assert where.headers(loki, where.url(loki), {}) == {}
    assert where.telemetry_headers_file() is None
