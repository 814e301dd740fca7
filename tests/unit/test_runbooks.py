"""The runbooks: a page for each alert, with queries of existing metrics."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from chatscope import names
from chatscope.names import METRICS
from dashboards import others
from dashboards.others import HISTOGRAM_PARTS, SERIES
from stack.facts import ROOT
from tests.config.files import parsed
from tests.each import for_each
from tests.promql import metrics_of
from tests.recipes import RUNBOOKS, Recipe, in_blocks

_LIST: Final = (ROOT / "docs" / "runbooks" / "README.md").read_text()
_SECTIONS: Final = ["What it means", "How to see it", "What to do", "When it is a false alarm"]
_RULES: Final[list[dict[str, Any]]] = [
    rule
    for folder in ("prometheus/rules", "loki/rules/fake")
    for path in sorted((ROOT / folder).glob("*.rules.yaml"))
    for group in parsed(path)["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
_ATTRIBUTES: Final = {
    value
    for registry in (vars(names), vars(others))
    for name, value in registry.items()
    if isinstance(value, str) and name.isupper()
}
_LABELS: Final = {names.prometheus_label(name) for name in _ATTRIBUTES}
_PAGES: Final = {page.stem: page for page in RUNBOOKS}
_RECIPES: Final = {
    f"{page.stem}: {recipe.query}": recipe for page in RUNBOOKS for recipe in in_blocks(page)
}


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    assert {page.stem for page in RUNBOOKS} == {rule["alert"] for rule in _RULES}


def test_list_has_each_alert_with_its_severities() -> None:
    severities: dict[str, set[str]] = defaultdict(set)
    for rule in _RULES:
        severities[rule["alert"]].add(rule["labels"]["severity"])
    listed = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| ([a-z, ]+) \|", _LIST, re.MULTILINE)
    assert len(listed) == len(dict(listed))
    assert {name: set(words.split(", ")) for name, words in listed} == severities


@for_each(_PAGES)
def test_page_answers_the_same_questions_as_all(page: Path) -> None:
    text = page.read_text()
    assert text.splitlines()[0] == f"# {page.stem}"
    assert re.findall("^## (.+)$", text, re.MULTILINE) == _SECTIONS


@for_each(_PAGES)
def test_page_has_queries_for_numbers_and_for_their_cause(page: Path) -> None:
    stores = {recipe.store for recipe in in_blocks(page)}
    assert "prometheus" in stores
    assert stores & {"loki", "tempo"}


@for_each(_PAGES)
def test_dashboard_of_the_page_is_that_of_the_alert(page: Path) -> None:
    named = set(re.findall(r"`/d/(\w+)`", page.read_text()))
    boards = {
        re.split(r"[/?]", rule["annotations"]["dashboard"])[2]
        for rule in _RULES
        if rule["alert"] == page.stem
    }
    assert boards <= named


@for_each(_RECIPES)
def test_query_asks_for_what_there_is(recipe: Recipe) -> None:
    query = recipe.query
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', query)
    if recipe.store == "prometheus":
        known = {series.prometheus for series in SERIES} | {m.prometheus for m in METRICS}
        known |= {f"{name}_{part}" for name in known for part in HISTOGRAM_PARTS}
        assert metrics_of(query)
        assert metrics_of(query) <= known
    if recipe.store == "tempo":
        asked = set(re.findall(r"\b(?:span|resource)\.([a-z_.]+)", bare))
        assert asked <= _ATTRIBUTES
    else:
        asked = set(re.findall(r"([a-z_]+)\s*(?:=~|!=|!~|>=|=|>)", bare))
        for grouped in re.findall(r"\b(?:by|ignoring) \(([^)]+)\)", bare):
            asked |= {label.strip() for label in grouped.split(",")} - {"le"}
        assert asked <= _LABELS
