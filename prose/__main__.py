"""Checks the words of the documentation, alerts, dashboards and docstrings: `python -m prose`."""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prose.texts import Text, texts

ROOT: Final = Path(__file__).parents[1]
VOCABULARY: Final = Path(__file__).with_name("vocabulary.toml")


@dataclass(frozen=True)
class Term:
    """A word or phrase that is not used, and its replacement."""

    pattern: "re.Pattern[str]"
    use: str
    bad: str
    good: str


def read(file: Path = VOCABULARY) -> list[Term]:
    """Return the terms of a vocabulary."""
    return [
        Term(
            re.compile(entry["pattern"], 0 if entry.get("case") else re.IGNORECASE),
            *(entry[name] for name in ("use", "bad", "good")),
        )
        for entry in tomllib.loads(file.read_text())["term"]
    ]


def findings(terms: Iterable[Term], lines: Iterable[Text]) -> Iterator[str]:
    """Yield a message for each term in each line."""
    terms = list(terms)
    for line in lines:
        for term in terms:
            for found in term.pattern.finditer(line.text):
                yield f"{line.file}:{line.line}: {found[0].strip()!r}: write {term.use}"


def main() -> int:
    """Exit code 1 if a text contains a term of the vocabulary."""
    messages = [each.replace(f"{ROOT}/", "") for each in findings(read(), texts(ROOT))]
    print("\n".join(messages) or "Prose: nothing found.")
    return bool(messages)


if __name__ == "__main__":
    sys.exit(main())
