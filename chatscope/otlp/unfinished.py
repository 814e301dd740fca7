"""Items whose long texts are encoded by the sending thread.

A text of 100 kB takes milliseconds, with many secrets in it a hundred of them; that time belongs to
no event loop. A text cannot change, so that it can be encoded later than the rest of its item.
"""

import sys
from collections.abc import Callable

from .anyvalue import LongText, pair
from .steps import Steps


class Unfinished:
    """An encoded item that lacks some of its attributes."""

    __slots__ = ("_data", "_size", "_texts")

    def __init__(self, data: bytes, texts: list[LongText]) -> None:
        self._data = data
        self._texts = texts
        self._size = len(data) + sum(sys.getsizeof(text) for _, _, text in texts)

    def __len__(self) -> int:
        """The memory it takes, in bytes."""
        return self._size

    def finish(self, failed: Callable[[Exception], None]) -> bytes:
        """Encode what it lacks; a text for which that fails is left out."""
        parts, steps = [self._data], Steps()
        for tag, name, text in self._texts:
            try:
                parts += (tag, pair(name, text, steps))
            except Exception as error:
                failed(error)
        return b"".join(parts)
