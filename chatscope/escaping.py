"""Make text from outside safe to print: control characters are shown, not obeyed.

A terminal obeys escape sequences, a line break begins a line that looks like another record, and
characters that change the direction of writing show a text in another order than it has.
"""

import re
from typing import Final

# C0, DEL and C1; the marks of Unicode that change the direction of writing, break a line, or are
# invisible letters; halves of surrogate pairs, which cannot be encoded.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHORT: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def escape_controls(text: str, keep: str = "") -> str:
    r"""Return `text` with each control character written as in a Python literal, such as `\x1b`.

    The characters in `keep`, such as "\n\t", are left as they are.
    """
    # All unsafe characters of ASCII are not printable, and most texts are printable.
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(lambda found: _escaped(found[0], keep), text)


def _escaped(character: str, keep: str) -> str:
    if character in keep:
        return character
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return _SHORT.get(character) or (f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}")
