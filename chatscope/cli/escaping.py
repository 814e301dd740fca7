"""Texts from outside, made safe for a terminal: log lines, responses, messages of providers."""

import re
from typing import Final

# Control and format characters, separators of lines, and surrogates: they move the cursor,
# change colours, reverse the direction of writing, hide text, or cannot be encoded. The two joiners
# U+200C and U+200D are part of words and emoji. Source: UnicodeData.txt, general categories Cc, Cf,
# Cs, Zl and Zp; a test compares.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e007f]"
)
_LINE_ENDS: Final = re.compile("[\t\n]")


def printable(text: object) -> str:
    r"""Return a text with control characters as escapes such as `\x1b`; tabs and lines stay."""
    return _UNSAFE.sub(_escape, str(text).replace("\r\n", "\n"))


def one_line(text: object) -> str:
    r"""Return a text for one line of output: tabs and line ends are `\t` and `\n`, too."""
    return _LINE_ENDS.sub(_escape, printable(text))


def _escape(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
