"""placeholder"""

from typing import Any, Final

LARGEST_INT: Final = 2**63 - 1
SMALLEST_INT: Final = -(2**63)
LONGEST_TEXT: Final = 262_144


def text(v: str) -> str:
    return v.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")[
        : LONGEST_TEXT // 4
    ]


def plain(v: Any) -> Any:
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    if isinstance(v, dict):
        return {str(k): plain(x) for k, x in v.items()}
    if isinstance(v, (bytes, str, float, bool)) or v is None:
        return v
    if isinstance(v, int):
        return v if SMALLEST_INT <= v <= LARGEST_INT else str(v)
    return str(v)
