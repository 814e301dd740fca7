"""The texts for users, line by line: documentation, alerts, dashboards, docstrings."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_CODE: Final = re.compile(r"``.+?``|`[^`]*`|\]\([^)]*\)|<https?:[^>]*>|https?://\S+|\{\{.*?\}\}")
_LOG_LINE: Final = re.compile(r'"[^"]*"')
_BRACES: Final = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True)
class Text:
    """A line of prose, without the code in it, and where it is."""

    file: Path
    line: int
    text: str


def texts(root: Path) -> Iterator[Text]:
    """Yield every checked line of the repository at `root`."""
    for page in (*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))):
        yield from markdown(page, page.read_text())
    for folder in ("prometheus/rules", "loki/rules/fake"):
        for file in sorted((root / folder).glob("*.rules.yaml")):
            yield from _rules(file)
    for file in sorted((root / "grafana-provisioning" / "dashboards").glob("*.json")):
        if file.stem != "runbooks":  # the pages of docs/runbooks
            yield from _dashboard(file)
    for folder in ("chatscope", "app"):
        for file in sorted((root / folder).rglob("*.py")):
            yield from docstrings(file, file.read_text())


def markdown(file: Path, text: str) -> Iterator[Text]:
    """Yield the lines of a page that are not in a code block."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip() == fence:
            fence = ""
        elif not fence:
            yield Text(file, number, _prose(line))


def _prose(line: str) -> str:
    """The line without code, links, and quoted names."""
    for pattern in (_CODE, _LOG_LINE, _BRACES):
        line = pattern.sub("…", line)
    return line


def _rules(file: Path) -> Iterator[Text]:
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if found := re.match(r" +(?:summary|description): (.*)", line):
            yield Text(file, number, _prose(found[1].strip("'\"")))


def _dashboard(file: Path) -> Iterator[Text]:
    """A dashboard's titles and descriptions; the line is that of the panel's title in JSON."""
    text = file.read_text()

    def visit(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in {"title", "description"} and isinstance(value, str):
                    yield value
                else:
                    yield from visit(value)
        elif isinstance(node, list):
            for each in node:
                yield from visit(each)

    for value in visit(json.loads(text)):
        start = text.find(json.dumps(value, ensure_ascii=False))
        yield Text(file, text.count("\n", 0, max(start, 0)) + 1, _prose(value))


def docstrings(file: Path, text: str) -> Iterator[Text]:
    """Yield the lines of the docstrings of public modules, classes and functions."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, kinds) or getattr(node, "name", "").startswith("_"):
            continue
        docstring = ast.get_docstring(node, clean=False)
        for offset, line in enumerate((docstring or "").splitlines()):
            yield Text(file, node.body[0].lineno + offset, _prose(line.strip()))
