"""Texts that tests add to the end of the run's output, with `record_property(NOTE, text)`."""

from typing import Final

import pytest

NOTE: Final = "note"


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the notes of all tests."""
    reports = [each for found in terminalreporter.stats.values() for each in found]
    for report in reports:
        if getattr(report, "when", "") == "call":
            for name, text in report.user_properties:
                if name == NOTE:
                    terminalreporter.write_line(f"{report.nodeid}: {text}")
