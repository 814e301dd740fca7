"""The table of a run, on a narrow terminal too."""

import io

import pytest
from rich.console import Console

from ledger.__main__ import show
from ledger.account import Account, Accounts

_ACCOUNT = Account(sent=123456, found=123455, lost=1, latest=3.2)
_ACCOUNTS = Accounts(run="abcdef12", spans=_ACCOUNT, logs=_ACCOUNT, increments=_ACCOUNT, gap=1.0)


@pytest.mark.parametrize("width", [40, 80])
def test_every_number_is_shown_whole(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    show(console, _ACCOUNTS)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert shown.count("123456") == shown.count("123455") == 3
    assert "…" not in shown
