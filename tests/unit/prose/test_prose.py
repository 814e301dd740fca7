"""The check of the words: what it finds, where it looks, and what it leaves out."""

import json
from pathlib import Path

import pytest

from prose.__main__ import Term, findings, read
from prose.texts import Text, docstrings, markdown, texts
from tests.each import for_each

_TERMS = read()


def _found(term: Term, text: str) -> list[str]:
    return list(findings([term], markdown(Path("page.md"), text)))


@for_each({term.pattern.pattern: term for term in _TERMS})
def test_term_is_found_in_its_bad_example_and_not_in_its_good_one(term: Term) -> None:
    assert _found(term, term.bad), term.bad
    assert not _found(term, term.good), term.good


def test_good_examples_contain_no_other_term() -> None:
    good = [Text(Path("good"), 1, term.good) for term in _TERMS]
    assert list(findings(_TERMS, good)) == []


def test_message_names_the_place_the_term_and_the_replacement() -> None:
    [message] = findings(_TERMS, markdown(Path("page.md"), "Fine.\n\nA dear model.\n"))
    assert message == "page.md:3: 'dear': write expensive"


@pytest.mark.parametrize(
    "text",
    [
        "`dear`",
        "```\ndear\n```",
        "~~~ text\n```\ndear\n~~~",
        "[text](dear.md)",
        "<https://example.com/dear>",
        'the log record "dear"',
    ],
)
def test_code_links_and_quoted_names_are_left_out(text: str) -> None:
    assert list(findings(_TERMS, markdown(Path("page.md"), text))) == []


def test_docstrings_of_public_names_are_read() -> None:
    code = '''"""Module.

Dear module.
"""

def public():
    """Dear function."""

def _private():
    """Dear private."""
'''
    found = list(findings(_TERMS, docstrings(Path("m.py"), code)))
    assert [message.split(":")[1] for message in found] == ["3", "7"]


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    rules = tmp_path / "prometheus" / "rules"
    boards = tmp_path / "grafana-provisioning" / "dashboards"
    for folder in (rules, boards, tmp_path / "docs" / "runbooks", tmp_path / "chatscope"):
        folder.mkdir(parents=True)
    (tmp_path / "README.md").write_text("dear\n")
    (tmp_path / "docs" / "runbooks" / "Slow.md").write_text("dear\n")
    (rules / "llm.rules.yaml").write_text("rules:\n  - annotations:\n      summary: 'Dear.'\n")
    (boards / "llm.json").write_text(
        json.dumps({"panels": [{"title": "a", "description": "dear"}]})
    )
    (tmp_path / "chatscope" / "m.py").write_text('"""Dear."""\n')
    found = {Path(message.split(":")[0]).name for message in findings(_TERMS, texts(tmp_path))}
    assert found == {"README.md", "Slow.md", "llm.rules.yaml", "llm.json", "m.py"}
