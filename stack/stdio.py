"""Standard streams that never end a command: any encoding, and a reader that closes the pipe.

Only the standard library and the syntax of Python 3.8: bootstrap.py uses it.
"""

from __future__ import annotations

import io
import os
import sys


def replace_unencodable() -> None:
    """Show `?` for characters that the terminal's encoding lacks, and read them in the same way."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def discard_output() -> None:
    """Discard further output to standard output, after its reader has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
