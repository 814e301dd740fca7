"""Values made of the bytes that a fuzzer changes: equal bytes make equal values.

A fuzzer that only changes bytes of JSON rarely keeps it valid. Here it changes valid documents: the
first byte chooses one of a target's documents, and each of the following bytes an edit.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

_NUMBERS: Final[tuple[Any, ...]] = (
    *(0, 1, -1, 2, 7, 100, 255, 400, 429, 503, 4096, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63)),
    *(2**64, 10**20, 10**400, 0.0, -0.0, 0.5, 1e-9, 1e308, 1e22, -1.5),
    *(float("nan"), float("inf"), float("-inf")),
)
_TEXTS: Final = (
    *("", " ", "a", "0", "null", "true", "stop", "user", "\n", "\r\n", "\0", "\x1b[31m", "\u2028"),
    *("é", "漢", "😀", "\ud83d", "\ude00", "\udfff", "٣٣٣", "²", "\ufeff", "..", "//", "%", "%zz"),
    *("x" * 300, "é" * 700, "a b " * 50, "{", '{"a":', "[1,", '"', "\\", "sk-abcDEF1234567890abc"),
)
_DEPTHS: Final = (30, 120, 220, 480)
_MAX_EDITS: Final = 6
_MAX_DEPTH: Final = 4


class Source:
    """Reads the bytes of one input; after their end, zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def ended(self) -> bool:
        """Whether all bytes were read."""
        return self._position >= len(self._data)

    def byte(self) -> int:
        """Return the next byte."""
        if self._position >= len(self._data):
            return 0
        self._position += 1
        return self._data[self._position - 1]

    def below(self, limit: int) -> int:
        """Return a number from 0 to below `limit`, which is at most 256."""
        return self.byte() % limit

    def choice(self, options: Sequence[Any]) -> Any:
        """Return one of the options."""
        return options[self.byte() % len(options)]

    def take(self, length: int) -> bytes:
        """Return up to that many bytes."""
        self._position += length
        return self._data[self._position - length : self._position]

    def rest(self) -> bytes:
        """Return all bytes that are left."""
        found = self._data[self._position :]
        self._position = len(self._data)
        return found

    def pieces(self, data: bytes) -> list[bytes]:
        """Divide `data` into up to eight pieces."""
        cuts = sorted({self.byte() * len(data) // 255 for _ in range(self.below(8))})
        edges = [0, *cuts, len(data)]
        return [data[a:b] for a, b in pairwise(edges) if a < b]

    def text(self, words: Sequence[str] = ()) -> str:
        """Return a known word, a text that often causes faults, or any characters."""
        match self.below(4):
            case 0 | 1 if words:
                return str(self.choice(words))
            case 2:
                return str(self.choice(_TEXTS))
            case _:
                return self.take(self.below(24)).decode("utf-8", "replace")

    def value(self, words: Sequence[str] = (), depth: int = 0) -> Any:  # noqa: PLR0911 - a table
        """Return a value of JSON, or one of Python's JSON such as NaN."""
        kind = self.below(16)
        if kind >= 10 and depth >= _MAX_DEPTH:
            kind -= 10
        match kind:
            case 0:
                return None
            case 1:
                return self.byte() % 2 == 0
            case 2 | 3 | 4:
                return self.choice(_NUMBERS)
            case 5 | 6 | 7 | 8 | 9:
                return self.text(words)
            case 10 | 11 | 12:
                count = self.below(5)
                return {self.text(words): self.value(words, depth + 1) for _ in range(count)}
            case 13 | 14:
                return [self.value(words, depth + 1) for _ in range(self.below(5))]
            case _:
                return self._nested(self.choice(_DEPTHS), self.text(words))

    def _nested(self, depth: int, name: str) -> Any:
        found: Any = []
        in_lists = self.byte() % 2
        for _ in range(depth):
            found = [found] if in_lists else {name: found}
        return found

    def edited(self, documents: Sequence[str], words: Sequence[str] = ()) -> Any:
        """Return one of the documents, which are JSON, after some edits."""
        box = [json.loads(self.choice(documents))]
        for _ in range(_MAX_EDITS):
            if self.ended:
                break
            self._edit(box, words)
        return box[0] if box else None

    def _edit(self, box: list[Any], words: Sequence[str]) -> None:
        """Change one place below the only item of `box`."""
        parent: Any = box
        key: Any = 0
        while box and self.below(8) and isinstance(parent[key], dict | list) and parent[key]:
            parent = parent[key]
            keys = list(parent) if isinstance(parent, dict) else range(len(parent))
            key = self.choice(keys)
        if not box:
            return
        match self.below(8):
            case 0 if parent is not box:
                del parent[key]
            case 1 if isinstance(parent[key], dict):
                parent[key][self.text(words)] = self.value(words)
            case 2 if isinstance(parent[key], list):
                parent[key].insert(self.below(len(parent[key]) + 1), self.value(words))
            case 3 if isinstance(parent, list) and parent is not box:
                parent.insert(key, parent[key])
            case 4 if isinstance(parent[key], str):
                parent[key] += self.text(words)
            case _:
                parent[key] = self.value(words)


def as_json(value: Any) -> bytes:
    """Render a value, also those that strict JSON lacks."""
    return json.dumps(value, ensure_ascii=True).encode()


def json_input(data: bytes, documents: Sequence[str], words: Sequence[str] = ()) -> bytes:
    """Return the bytes of a document: edited, or, from an input that begins with 255, its rest."""
    if data[:1] == b"\xff":
        return data[1:]
    return as_json(Source(data).edited(documents, words))
