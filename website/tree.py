"""The Markdown files of the site: those of docs/, and the files that they link to.

Files in the repository link to each other by relative paths that work in a checkout. The site has
the same pages and links: the README is its first page, and a linked file of the repository, such as
an example, becomes a page that shows it.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_DOCS: Final = "docs/"
# Files in the repository's root that are pages.
_ROOT_PAGES: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK: Final = re.compile(r"\]\((?![a-z]+:|#|/)([^)#\s]+)(#[^)\s]*)?\)")
_FENCE: Final = re.compile(r"\s*(`{3,}|~{3,})")
_LANGUAGES: Final = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}
_LONGEST_SHOWN: Final = 100_000
PYTHON_PAGE: Final = "python-api.md"
_PYTHON_MODULES: Final = ("", ".genai", ".logs", ".otlp", ".redaction", ".testing")
_PYTHON_HEAD: Final = """# Python API

The public names of the package, generated from the code. How to use them:
[your own service](your-service.md), [recorders](recorders.md), [delivery](otlp.md).
"""


def pages(root: Path) -> dict[str, str]:
    """Return the text of each page of the site by its path, from the repository at `root`."""
    sources = {name: page for name, page in _ROOT_PAGES.items() if (root / name).exists()}
    for file in sorted((root / _DOCS).rglob("*.md")):
        name = file.relative_to(root).as_posix()
        sources[name] = name.removeprefix(_DOCS)
    made = {PYTHON_PAGE: _python_api()}
    linked: set[str] = set()
    for name, page in sources.items():
        text = (root / name).read_text()
        linked |= {path for path in _targets(name, text) if path not in sources}
        made[page] = _for_the_site(name, page, text, sources)
    for path in sorted(linked):
        if (root / path).is_file() and not path.startswith(_DOCS):
            made[f"source/{path}.md"] = _shown(path, (root / path).read_text())
    return made


def _targets(name: str, text: str) -> Iterator[str]:
    """Return the repository paths to which a file links."""
    for target, _ in _LINK.findall(text):
        yield _path(name, target)


def _path(name: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _for_the_site(name: str, page: str, text: str, sources: dict[str, str]) -> str:
    """Convert links to pages of the site, and unescape the pipes of code in tables."""

    def link(found: "re.Match[str]") -> str:
        path = _path(name, found[1])
        target = path.removeprefix(_DOCS) if path.startswith(_DOCS) else f"source/{path}.md"
        relative = posixpath.relpath(sources.get(path, target), posixpath.dirname(page) or ".")
        return f"]({relative}{found[2] or ''})"

    def line(text: str) -> str:
        text = _LINK.sub(link, text)
        if text.startswith("|"):
            text = re.sub(r"`[^`]+`", lambda code: code[0].replace("\\|", "|"), text)
        return text

    return _outside_code(text, line)


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """Change each line that is not in a code block."""
    lines, fence = [], ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        inside = bool(fence)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip() == fence:
            fence = ""
        lines.append(line if inside or mark else change(line))
    return "\n".join(lines) + "\n"


def _shown(path: str, text: str) -> str:
    """Return the page that shows a file of the repository."""
    if len(text) > _LONGEST_SHOWN:
        return f"# {path}\n\nThis file of the repository is too long to be shown here.\n"
    language = _LANGUAGES.get(posixpath.splitext(path)[1], "text")
    return f"# {path}\n\n~~~~~~ {language}\n{text}~~~~~~\n"


def _python_api() -> str:
    modules = "\n".join(f"\n::: chatscope{module}" for module in _PYTHON_MODULES)
    return f"{_PYTHON_HEAD}{modules}\n"
