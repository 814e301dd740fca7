"""No text from outside commands the terminal."""

import sys
import unicodedata

import pytest

from chatscope.cli.escaping import one_line, printable

_JOINERS = "\u200c\u200d"
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_all_control_and_format_characters_are_escaped_and_nothing_else() -> None:
    wrong = []
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        if unicodedata.category(character) == "Cn":
            continue  # maybe one of a later version of Unicode
        unsafe = unicodedata.category(character) in _UNSAFE and character not in _JOINERS + "\t\n"
        if (printable(character) != character) != unsafe:
            wrong.append(hex(number))
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\x07b\n\tc é 漢", r"a\x1b[2J\x07b" + "\n\tc é 漢"),
        ("\x9b31m", r"\x9b31m"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("\U000e0041", r"\U000e0041"),
        ("one\r\ntwo\rthree", "one\ntwo" + r"\rthree"),
        ("👩\u200d👧", "👩\u200d👧"),
    ],
)
def test_escape_is_seen_where_the_character_was(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_line_stays_one_line() -> None:
    assert one_line("a\nb\tc\x1b") == r"a\nb\tc\x1b"
