"""Parses metric names in PromQL."""

import re
from typing import Final

_OPERATORS: Final = {"or", "and", "unless", "bool", "offset", "inf", "nan", "NaN", "Inf"}


def metrics_of(promql: str) -> set[str]:
    """Return the metric names in a query, without labels, functions and operators."""
    # Several can be in one matcher: {__name__=~"one|other"}.
    several = re.sub(r'\{__name__=~"([^"]*)"\}', lambda found: found[1].replace("|", " "), promql)
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', several)
    bare = re.sub(r"\{[^}]*\}", "{}", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    bare = re.sub(r"(label_values\([^,]*),[^)]*", r"\1", bare)
    words = re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*(?!\w|\s*\()", bare)
    return {word for word in words if word not in _OPERATORS}
