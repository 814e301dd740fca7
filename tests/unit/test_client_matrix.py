"""The tables of clients and providers in docs/api.md: each cell is a test, each test a cell."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.clients import matrix, packages, recorded, test_clients, test_providers

_PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
_TESTED = "✓"
_LACKING = "-"


def _cells(corner: str, columns: Mapping[str, str], rows: Mapping[str, str]) -> set[str]:
    """Return column and row, as `column-row`, of each cell with a mark."""
    table = _PAGE.partition(f"\n| {corner} | {' | '.join(columns.values())} |\n")[2]
    lines = table.partition("\n\n")[0].splitlines()[1:]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [line[0] for line in found] == list(rows.values())
    assert {cell for line in found for cell in line[1:]} <= {_TESTED, _LACKING}
    return {
        f"{column}-{row}"
        for row, line in zip(rows, found, strict=True)
        for column, cell in zip(columns, line[1:], strict=True)
        if cell == _TESTED
    }


def _ids(test: Callable[..., Any]) -> set[str]:
    """Return the IDs of the cases of a parametrized test."""
    mark: Any = test.pytestmark[0]  # type: ignore[attr-defined]
    return {case.id for case in mark.args[1]}


def test_each_cell_of_the_clients_is_a_test() -> None:
    cells = _cells("feature", matrix.CLIENTS, matrix.FEATURES)
    assert cells == _ids(test_clients.test_client_uses_feature)


def test_each_cell_of_the_providers_is_a_test() -> None:
    cells = _cells("response", matrix.PROVIDERS, matrix.RESPONSES)
    assert cells == _ids(test_providers.test_response_of_provider)


def test_each_file_of_a_provider_is_used() -> None:
    files = {file.stem for file in recorded.DIRECTORY.iterdir()}
    assert files == set(matrix.PROVIDERS)


def test_packages_for_node_are_locked_without_an_address() -> None:
    lock = json.loads((packages.NODE / "package-lock.json").read_text())
    locked = {name: package for name, package in lock["packages"].items() if name}
    assert all(package["integrity"] for package in locked.values())
    assert not [name for name, package in locked.items() if "resolved" in package]
