"""The documentation site: its pages, their links, and that it needs no other host."""

import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from stack.facts import ROOT
from tests.unit.package.environment import uv
from website.__main__ import SITE, with_navigation
from website.tree import pages

_LINK: Final = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
# Only those that a browser loads by itself: links may lead anywhere.
_LOADED: Final = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(https?:|//)"
    r"|<link\b[^>]*\bhref=\"?(https?:|//)|@import|url\(['\"]?(?:https?:|//)"
)


def test_links_of_pages_lead_to_pages_of_the_site() -> None:
    made = pages(ROOT)
    for name, text in made.items():
        if name.startswith(("source/", "changelog")):
            continue
        prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
        for target in _LINK.findall(prose):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            assert path in made or (ROOT / "docs" / path).exists(), f"{name}: {target}"


def test_readme_is_the_first_page_and_a_linked_file_is_shown(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "shop.py").write_text("print(1)\n")
    (tmp_path / "README.md").write_text("[run](docs/running.md#how)\n")
    (tmp_path / "docs" / "running.md").write_text("[shop](../shop.py), [start](../README.md)\n")
    made = pages(tmp_path)
    assert made["index.md"] == "[run](running.md#how)\n"
    assert made["running.md"] == "[shop](source/shop.py.md), [start](index.md)\n"
    assert made["source/shop.py.md"] == "# shop.py\n\n~~~~~~ python\nprint(1)\n~~~~~~\n"


def test_pipes_are_unescaped_in_code_of_tables_only(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    text = "| `a \\| b` | c \\| d |\n\n```\n| `a \\| b` |\n```\n"
    (tmp_path / "docs" / "page.md").write_text(text)
    assert pages(tmp_path)["page.md"] == text.replace("`a \\| b` | c", "`a | b` | c")


def test_navigation_has_all_runbooks_and_pages_and_none_that_is_missing() -> None:
    text = "nav:\n  - Alerts:\n      - runbooks/README.md\n      - missing.md\n# (others)\n"
    made = {"runbooks/README.md", "runbooks/Slow.md", "new.md", "source/x.py.md"}
    assert with_navigation(text, made) == (
        "nav:\n  - Alerts:\n      - runbooks/README.md\n      - runbooks/Slow.md\n"
        "  - More:\n      - new.md\n"
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere() -> None:
    reached = uv(
        "pip", "install", "-q", "--dry-run", "--refresh-package", "zensical",
        "--python", sys.executable, "zensical", check=False,
    )  # fmt: skip
    if reached.returncode:
        pytest.skip(f"no package index: {reached.stderr.strip().splitlines()[-1]}")
    done = subprocess.run(
        ["make", "docs"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = [path for path in SITE.rglob("*") if path.suffix in {".html", ".css"}]
    assert len(files) > len(list((ROOT / "docs").rglob("*.md")))
    for path in files:
        assert not _LOADED.search(path.read_text()), path
