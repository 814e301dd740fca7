"""Bar charts as SVG that is readable on light and on dark pages.

The charts need bars and labels only, and one file for both colour schemes. matplotlib writes its
colours into every element, so that it would need two files, and eleven more packages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 860
_LABEL: Final = 390  # px of the labels' column
_VALUE: Final = 70  # px of the values behind the longest bar
_BAR: Final = 18
_ROW: Final = 28
_TITLE: Final = 34
_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.ours { fill: #1f6feb } .other { fill: #8b949e } .spread { stroke: #d1242f; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #d0d7de } .ours { fill: #58a6ff } .spread { stroke: #ff7b72 }
}
"""


@dataclass(frozen=True)
class Bar:
    """One bar: a value, and the range of its rounds in the same unit."""

    label: str
    value: float
    spread: float
    ours: bool = False


def chart(title: str, bars: Sequence[Bar]) -> str:
    """Return an SVG of bars from zero; a red line is as long as the spread."""
    longest = max([max(bar.value, 0) + bar.spread / 2 for bar in bars]) or 1.0
    scale = (_WIDTH - _LABEL - _VALUE) / longest
    height = _TITLE + _ROW * len(bars) + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<text class="title" x="0" y="20">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        lines += _bar(bar, _TITLE + _ROW * number, scale)
    return "\n".join([*lines, "</svg>", ""])


def number_text(value: float) -> str:
    """Return a number with three significant digits, at most two decimals, and no exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _bar(bar: Bar, top: int, scale: float) -> list[str]:
    length, middle = max(bar.value, 0.0) * scale, top + _BAR // 2
    half = bar.spread / 2 * scale
    left, right = max(_LABEL + length - half, float(_LABEL)), _LABEL + length + half
    kind, label = "ours" if bar.ours else "other", escape(bar.label.replace("`", ""))
    return [
        f'<text x="{_LABEL - 8}" y="{middle + 5}" text-anchor="end">{label}</text>',
        f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR}"/>',
        f'<line class="spread" x1="{left:.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{right + 6:.1f}" y="{middle + 5}">{number_text(bar.value)}</text>',
    ]
