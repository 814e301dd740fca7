"""The output of `up` and `status`, on narrow and usual terminals."""

import io
from collections.abc import Mapping

import pytest
from rich.console import Console

from chatscope.cli.grafana import trace_url
from stack import facts, grafana, screen
from stack.firstchat import Chat, queries
from stack.parts import PARTS
from stack.supervisor import ProcessState

_CHAT = Chat("simulated-1", "Hello", "0123456789abcdef" * 2, 0.5)


def _process(**changes: object) -> ProcessState:
    usual: dict[str, object] = {
        "name": "loki",
        "status": "Running",
        "running": True,
        "pid": 1,
        "restarts": 0,
        "exit_code": 0,
        "memory": 120 * screen.MIB,
        "uptime": 187.0,
    }
    return ProcessState(**{**usual, **changes})  # type: ignore[arg-type]


_MISSING = {"grafana": grafana.MISSING}


def _screen(width: int, missing: Mapping[str, str] = _MISSING) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    loaded = facts.load({})
    running = [part for part in PARTS if part.name not in missing]
    rows = [screen.row(part, loaded, _process(), ready=True) for part in running]
    links = screen.Links(loaded["APP_URL"], "" if missing else loaded["GRAFANA_URL"])
    screen.show_up(console, rows, missing, _CHAT, links)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("missing", [_MISSING, {}], ids=["without grafana", "all"])
@pytest.mark.parametrize("width", [60, 80])
def test_screen_fits_a_usual_terminal(width: int, missing: Mapping[str, str]) -> None:
    lines = _screen(width, missing)
    # There is one more line above.
    assert len(lines) < 24
    # A query is one line to copy, of any length.
    assert all(len(line) <= width for line in lines if _CHAT.trace_id not in line)


@pytest.mark.parametrize("width", [40, 80])
def test_every_query_is_one_line_to_copy(width: int) -> None:
    lines = _screen(width)
    for query in queries(_CHAT.trace_id).values():
        assert query in lines


@pytest.mark.parametrize("width", [40, 80])
def test_link_to_the_trace_takes_the_place_of_queries_where_grafana_runs(width: int) -> None:
    lines = _screen(width, {})
    assert trace_url(facts.load({})["GRAFANA_URL"], _CHAT.trace_id) in lines
    assert not set(queries(_CHAT.trace_id).values()) & set(lines)


@pytest.mark.parametrize("missing", [_MISSING, {}], ids=["without grafana", "all"])
def test_screen_ends_with_the_address_to_open_and_the_next_commands(
    missing: Mapping[str, str],
) -> None:
    *_, first, commands = _screen(80, missing)
    assert first == f"Open {facts.load({})['APP_URL']} and ask something."
    assert commands.startswith("make demo")


def _next(alerts: list[str] | None, grafana_url: str) -> str:
    console = Console(file=io.StringIO(), width=80)
    screen.show_next(console, screen.Links("http://127.0.0.1:3000", grafana_url), alerts)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_status_names_the_alerts_that_fire_and_leads_to_the_dashboards() -> None:
    assert "Firing: ServiceDown, TokenSpike\n" in _next(["ServiceDown", "TokenSpike"], "")
    assert "No alerts\n" in _next([], "")
    assert "unknown" in _next(None, "")
    assert "Dashboards: http://127.0.0.1:3001\n" in _next([], "http://127.0.0.1:3001")
    assert "Dashboards" not in _next([], "")


def test_line_has_no_control_characters_and_is_cut_on_request() -> None:
    console = Console(file=io.StringIO(), width=20)
    screen.line(console, "\x1b[2Jgone\nnext")
    screen.line(console, "x" * 50, cut=True)
    screen.line(console, "y" * 50)
    assert isinstance(console.file, io.StringIO)
    escaped, following, cut, whole = console.file.getvalue().splitlines()
    assert (escaped, following) == (r"\x1b[2Jgone", "next")
    assert (len(cut), len(whole)) == (20, 50)


def test_narrow_terminal_shows_each_part_and_its_state() -> None:
    lines = _screen(40)
    for part in PARTS:
        if part.name == "gateway":  # left out while it is well
            continue
        state = "missing" if part.name in _MISSING else "ready"
        assert any(line.startswith(part.name) and state in line for line in lines)


@pytest.mark.parametrize("width", [40, 80])
def test_status_has_one_line_for_each_part(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    loaded = facts.load({})
    rows = [screen.row(part, loaded, _process(), ready=True) for part in PARTS]
    screen.show_parts(console, rows, {}, usage=True)
    assert isinstance(console.file, io.StringIO)
    _, *lines = console.file.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == [part.name for part in PARTS]
    assert all("ready" in line and "120 MiB" in line for line in lines)


def test_missing_part_has_no_address_and_says_how_to_get_it() -> None:
    text = " ".join(_screen(80))
    assert "3001" not in text
    assert f"grafana: {grafana.MISSING}" in " ".join(text.split())


@pytest.mark.parametrize(
    ("process", "ready", "state"),
    [
        (None, False, "stopped"),
        (_process(), True, "ready"),
        (_process(), False, "not ready"),
        (_process(running=False, status="Restarting", exit_code=2), False, "dead, exit code 2"),
        (_process(restarts=3), True, "ready, 3 restarts"),
    ],
)
def test_state_is_shown_in_words(process: ProcessState | None, ready: bool, state: str) -> None:
    assert screen.row(PARTS[0], facts.load({}), process, ready).state == state


def test_row_has_memory_and_uptime() -> None:
    row = screen.row(PARTS[0], facts.load({}), _process(), ready=True)
    assert (row.memory, row.uptime) == ("120 MiB", "3 min 7 s")
