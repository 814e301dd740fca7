"""Builds the documentation site into .chatscope/website/site, for `make docs`."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from website.tree import pages

_ROOT: Final = Path(__file__).parents[1]
_STATE: Final = _ROOT / ".chatscope"
_SOURCE: Final = _STATE / "website"
SITE: Final = _SOURCE / "site"
_CONFIGURATION: Final = _ROOT / "website" / "mkdocs.yml"
_RUNBOOKS: Final = "runbooks/README.md"


def main() -> int:
    """Return exit code 0 if the site was built without a warning."""
    shutil.rmtree(_SOURCE, ignore_errors=True)
    made = pages(_ROOT)
    for name, text in made.items():
        path = _SOURCE / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    images = _ROOT / "docs" / "images"
    if images.exists():
        shutil.copytree(images, _SOURCE / "docs" / "images")
    configuration = _SOURCE / "mkdocs.yml"
    configuration.write_text(with_navigation(_CONFIGURATION.read_text(), set(made)))
    zensical = _STATE / "docs-environment" / "bin" / "zensical"
    return subprocess.run(
        [zensical, "build", "--strict", "--clean", "--config-file", configuration],
        cwd=_SOURCE,
        check=False,
    ).returncode


def with_navigation(text: str, made: set[str]) -> str:
    """Complete the navigation: add all runbooks, remove missing pages.

    Pages that it does not name are listed at its end.
    """
    lines, named = [], {_RUNBOOKS}
    for line in text.splitlines():
        entry = re.fullmatch(r"( +)- (?:[^:]+: )?(\S+\.md)", line)
        if entry is None or entry[2] in made:
            lines.append(line)
        if entry is not None:
            named.add(entry[2])
        if entry is not None and entry[2] == _RUNBOOKS:
            runbooks = sorted(name for name in made if name.startswith("runbooks/"))
            runbooks.remove(_RUNBOOKS)
            lines += [f"{entry[1]}- {name}" for name in runbooks]
    others = sorted(name for name in made - named if "/" not in name)
    more = ["  - More:", *(f"      - {name}" for name in others)] if others else []
    return "\n".join(lines).replace("# (others)", "\n".join(more)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
