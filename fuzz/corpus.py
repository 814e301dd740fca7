"""Corpora: the inputs of a target as one file, a line each, escaped like JSON."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parent / "corpus"


def read(name: str, directory: Path = DIRECTORY) -> list[bytes]:
    """Return the committed inputs of a target; none of one without a corpus."""
    path = directory / f"{name}.txt"
    if not path.exists():
        return []
    lines = path.read_text(encoding="ascii").splitlines()
    return [json.loads(line).encode("latin-1") for line in lines]


def write(name: str, inputs: Iterable[bytes], directory: Path = DIRECTORY) -> None:
    """Replace the committed inputs of a target: the short ones first, each once."""
    ordered = sorted(set(inputs), key=lambda data: (len(data), data))
    lines = [json.dumps(data.decode("latin-1")) for data in ordered]
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), "ascii")


def unpack(inputs: Iterable[bytes], directory: Path) -> None:
    """Write each input as a file, as libFuzzer reads them."""
    directory.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (directory / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def packed(directory: Path) -> list[bytes]:
    """Return the inputs of a directory of libFuzzer."""
    return [path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()]
