"""The mutation score of each module, kept between runs."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

from tests.mutation.workspace import NOT_KILLED, ROOT, STATE

_FILE = STATE / "scores.json"


@dataclass(frozen=True)
class Score:
    """A module's result. `digest` changes with the module and its tests."""

    digest: str
    mutants: int
    tested: int
    killed: int
    date: str

    @classmethod
    def of(cls, digest: str, mutants: int, statuses: Counter[str]) -> Self:
        tested = statuses.total()
        killed = tested - sum(statuses[status] for status in NOT_KILLED)
        return cls(digest, mutants, tested, killed, datetime.now(UTC).date().isoformat())

    def row(self, module: str) -> str:
        share = f"{self.killed / self.tested:.0%}" if self.tested else "-"
        columns = (f"`{module}`", self.mutants, self.tested, self.killed, share, self.date)
        return f"| {' | '.join(map(str, columns))} |"


def digest(paths: Sequence[str], size: int) -> str:
    """Return a hash of the files at `paths` and of the sample's size."""
    content = b"".join((ROOT / path).read_bytes() for path in paths)
    return hashlib.sha256(content + str(size).encode()).hexdigest()[:16]


def load() -> dict[str, Score]:
    if not _FILE.exists():
        return {}
    return {module: Score(**fields) for module, fields in json.loads(_FILE.read_text()).items()}


def save(scores: dict[str, Score]) -> None:
    fields = {module: asdict(score) for module, score in sorted(scores.items())}
    _FILE.parent.mkdir(parents=True, exist_ok=True)
    _FILE.write_text(json.dumps(fields, indent=1))


def table(scores: dict[str, Score]) -> str:
    """Return the scores as the Markdown table of docs/development.md."""
    head = ["| module | mutants | tested | killed | score | date |", "|---|---|---|---|---|---|"]
    return "\n".join(head + [score.row(module) for module, score in sorted(scores.items())])
