"""Every query of each panel and variable of each dashboard finds data under load."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pytest

from chatscope.names import CONNECTION_ID, GEN_AI_CONVERSATION_ID, USER_ID, prometheus_label
from dashboards import variables
from dashboards.others import TRACE_ID
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.asking import Asker, Line, QueryError
from tests.stack.boards import WITHOUT_QUERIES, Board, Panel, Query, Variable, read_boards
from tests.stack.filling import Choice, UnknownVariableError, Window, at_first, fill, step, times

_BOARDS = read_boards()
_WITH_QUERIES = [
    board
    for board in _BOARDS.values()
    if any(panel.kind not in WITHOUT_QUERIES for panel in board.panels)
]
_VARIABLES = [v for board in _BOARDS.values() for v in board.variables if v.kind == "query"]
_ANNOTATIONS = [(board.uid, query) for board in _BOARDS.values() for query in board.annotations]

Choices = dict[str, Choice]


@pytest.fixture(scope="module")
def asker(stack: Stack) -> Iterator[Asker]:
    asker = Asker(stack.facts)
    yield asker
    asker.close()


@pytest.fixture(scope="module")
def choices(asker: Asker, window: Window) -> Mapping[str, dict[str, Choices]]:
    """Return the selectable values of each dashboard: one for all, and each value by its name."""
    return {
        uid: {
            "all": {v.name: _all(v, asker, window) for v in board.variables},
            "each by its name": {v.name: _each(v, asker, window) for v in board.variables},
        }
        for uid, board in _BOARDS.items()
    }


def _all(variable: Variable, asker: Asker, window: Window) -> Choice:
    choice = at_first(variable)
    return choice if choice.raw or variable.kind != "query" else _each(variable, asker, window)


def _each(variable: Variable, asker: Asker, window: Window) -> Choice:
    if variable.kind != "query":
        return at_first(variable)
    found = tuple(asker.values(variable, _variable_text(variable, window), window))
    many = variable.multi or variable.include_all
    return Choice(found if many else found[:1], pattern=many)


def _variable_text(variable: Variable, window: Window) -> str:
    query = variable.query
    text = query.get("query") or "" if isinstance(query, dict) else str(query)
    chosen = {v.name: at_first(v) for v in _BOARDS[variable.board].variables}
    return fill(text, variable.datasource, {**times(window), **chosen})


def _empty(panel: Panel, query: Query, chosen: Choices, asker: Asker, window: Window) -> str:
    """Return the reason why a query shows nothing."""
    interval = str(query.raw.get("interval") or panel.interval)
    text = query.text
    try:
        text = fill(text, query.datasource, {**times(window, interval), **chosen})
        empty = asker.empty(query, text, window, step(interval))
    except (QueryError, UnknownVariableError) as error:
        return f"{error}: {text}"
    return f"nothing ({empty}): {text}" if empty and not panel.may_be_empty else ""


class _Asked(NamedTuple):
    """One query of a panel, with a selection of variables and its name."""

    panel: Panel
    query: Query
    which: str
    chosen: Choices


_PIPELINE = pytest.mark.one_machine("it shows the steps of one Collector, and of Prometheus")


@pytest.mark.parametrize(
    "board",
    [
        pytest.param(board, id=board.uid, marks=_PIPELINE if board.uid == "pipeline" else ())
        for board in _WITH_QUERIES
    ],
)
def test_every_panel_of_the_dashboard_shows_the_load(
    asker: Asker, window: Window, choices: Mapping[str, dict[str, Choices]], board: Board
) -> None:
    waiting = [
        _Asked(panel, query, which, chosen)
        for panel in board.panels
        for query in panel.queries
        if query.datasource != "__expr__"
        for which, chosen in choices[board.uid].items()
    ]
    assert waiting

    def nothing_missing() -> bool:
        problems = [
            (asked, why)
            for asked in waiting
            if (why := _empty(asked.panel, asked.query, asked.chosen, asker, window))
        ]
        # A query that has returned data once is not repeated.
        waiting[:] = [asked for asked, _ in problems]
        assert not problems, "\n".join(
            f"panel {asked.panel.title!r}, query {asked.query.ref} of {asked.query.datasource} with"
            f" {asked.which}: {why}"
            for asked, why in problems
        )
        return True

    # Do not wait again for data that did not arrive.
    patience = max(0.0, window.end + PATIENCE_SECONDS - time.time())
    poll_until(nothing_missing, f"data in each panel of board {board.uid!r}", patience, 1.0)


def test_every_variable_offers_values(asker: Asker, window: Window) -> None:
    texts = [(variable, _variable_text(variable, window)) for variable in _VARIABLES]
    empty = [
        f"board {variable.board!r}, variable ${variable.name}: nothing: {text}"
        for variable, text in texts
        if not asker.values(variable, text, window)
    ]
    assert texts
    assert not empty, "\n".join(empty)


def test_annotations_can_be_asked(
    asker: Asker, window: Window, choices: Mapping[str, dict[str, Choices]]
) -> None:
    assert _ANNOTATIONS
    for board, query in _ANNOTATIONS:
        chosen = {**times(window), **choices[board]["all"]}
        asker.empty(query, fill(query.text, query.datasource, chosen), window, step())


_FIELDS = [v for board in _BOARDS.values() for v in board.variables if v.kind == "textbox"]


@pytest.mark.parametrize("field", _FIELDS, ids=lambda v: f"{v.board}: ${v.name}")
def test_text_field_finds_its_lines_and_no_other(
    asker: Asker, window: Window, choices: Mapping[str, dict[str, Choices]], field: Variable
) -> None:
    queries = [
        query.text
        for panel in _BOARDS[field.board].panels
        for query in panel.queries
        if f"{{{field.name}:" in query.text and "_over_time(" not in query.text
    ]
    assert queries

    def found(typed: str, text: str) -> list[Line]:
        entered = Choice((typed,), pattern=False)
        chosen = {**times(window), **choices[field.board]["all"], field.name: entered}
        return asker.lines(fill(text, "loki", chosen), window)

    for text in queries:
        everything = found("", text)
        wanted, is_meant = _typed(field, everything)
        lines = found(wanted, text)
        assert lines
        assert all(map(is_meant, lines))
        assert not all(map(is_meant, everything))
        assert not found("nobody wrote this", text)
        # It is a text, not a pattern.
        assert not found(".*", text)


def _typed(field: Variable, lines: list[Line]) -> tuple[str, Callable[[Line], bool]]:
    """Texts that users copy from a line into a text field, and the lines that they expect."""
    if field.name == variables.TEXT.name:
        return "completed", lambda line: "completed" in line.text
    keys = {
        variables.TRACE.name: (TRACE_ID,),
        # A conversation that nobody names has the ID of its connection.
        variables.CONVERSATION.name: tuple(
            map(prometheus_label, (GEN_AI_CONVERSATION_ID, CONNECTION_ID))
        ),
        variables.USER.name: (prometheus_label(USER_ID),),
    }[field.name]
    value = next(line.metadata[keys[0]] for line in lines if keys[0] in line.metadata)
    # The beginning of an ID is enough.
    return value, lambda line: any(line.metadata.get(key, "").startswith(value) for key in keys)
