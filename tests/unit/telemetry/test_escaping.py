"""Control characters of outside text: shown as text on the console, never obeyed."""

import re
import subprocess
import sys
import unicodedata

import pytest

from chatscope.escaping import escape_controls

_RECORD = re.compile(r"\d\d:\d\d:\d\d\.\d{3} ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é текст 文 👨‍👩‍👧", "plain é текст 文 👨‍👩‍👧"),
        ("a\tb\nc\rd", r"a\tb\nc\rd"),
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("\x9b31m\x7f\x00", r"\x9b31m\x7f\x00"),
        ("line\u2028line\x85line", r"line\u2028line\x85line"),
        ("abc\u202egpj.exe", r"abc\u202egpj.exe"),
        ("\udc80\U000e0041", r"\udc80\U000e0041"),
    ],
)
def test_control_character_is_written_out(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


def test_every_control_character_of_unicode_is_escaped() -> None:
    obeyed = {"Cc", "Zl", "Zp", "Cs"}
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in obeyed:
            assert escape_controls(chr(code)).isascii(), hex(code)
            assert escape_controls(chr(code)).isprintable(), hex(code)


def test_kept_characters_stay() -> None:
    assert escape_controls("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


_LOGS = r"""
import logging
from chatscope.logs.bridge import Bridge
from chatscope.logs.loguru_handler import buffer_logs, start_export
buffer_logs()
from loguru import logger
from tests.memory import Memory
start_export(Bridge(Memory().providers.logger_provider), "INFO")
forged = "k\n14:00:00.000 CRITICAL FORGED root logged in\x1b[2J\x1b]0;TITLE\x07\x9b31m\u202e\u2028x"
logger.info(forged)
logger.bind(**{forged: forged}).info("extra")
logging.getLogger(forged).warning(forged)
logging.getLogger("uvicorn.access").info(
    '%s - "%s %s HTTP/%s" %d', forged, "GET", f"/{forged}", "1.1", 200)
try:
    raise ValueError(forged)
except ValueError:
    logger.exception("failed")
"""


@pytest.mark.slow
def test_no_outside_text_begins_a_line_or_commands_the_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOGS], capture_output=True, timeout=240, check=True
    )
    shown = done.stderr.decode()
    assert set(re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]", shown)) == set()
    lines = shown.split("\n")
    records = [line for line in lines if _RECORD.match(line)]
    assert len(records) == 5, shown
    assert not [line for line in records if line.startswith("14:00:00.000 CRITICAL FORGED")]
    assert [line for line in lines if "CRITICAL FORGED" in line and line.startswith("  14:")]
