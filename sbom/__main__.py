"""Writes software bills of materials into .chatscope/sbom, for `make sbom`.

One of the service's Python packages, one of each Go component, and one of the images. Exit
code 1 if one of them cannot be made; the others are written all the same.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from chatscope import __version__
from sbom.documents import ModulesError, of_binary, of_images, text
from stack.build import BuildError
from stack.images import BASE, IMAGES, SCALED_IMAGES
from stack.machine import go_problems
from stack.parts import BINARIES

ROOT: Final = Path(__file__).parents[1]
DIRECTORY: Final = ROOT / ".chatscope" / "sbom"


def main(directory: Path = DIRECTORY) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    problems = go_problems()
    for each in [] if problems else [each for each in BINARIES if not each.for_tests]:
        try:
            _write(directory / f"{each.name}.cdx.json", text(of_binary(each)))
        except (ModulesError, BuildError) as error:
            problems.append(str(error))
    _write(directory / "images.cdx.json", text(of_images((*IMAGES, *SCALED_IMAGES, BASE))))
    try:
        _write(directory / "service.cdx.json", of_service())
    except subprocess.CalledProcessError as error:
        problems.append(f"requirements.txt: {error.stderr.strip()[-300:]}")
    for problem in problems:
        print(f"NOT WRITTEN: {problem}", file=sys.stderr)
    return 1 if problems else 0


def of_service() -> str:
    """The packages of requirements.txt with their hashes, by cyclonedx-py.

    Raises CalledProcessError.
    """
    command = [
        *(sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements"),
        *("--pyproject", "pyproject.toml", "--mc-type", "application", "--sv", "1.6"),
        *("--output-reproducible", "requirements.txt"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    # It is dynamic in pyproject.toml.
    document["metadata"]["component"]["version"] = __version__
    return json.dumps(document, indent=2) + "\n"


def _write(file: Path, document: str) -> None:
    file.write_text(document)
    count = len(json.loads(document).get("components", []))
    print(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}: {count} components")


if __name__ == "__main__":
    sys.exit(main())
