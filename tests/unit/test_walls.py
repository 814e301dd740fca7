"""The walls between the rooms of the application."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_APP = Path(__file__).parents[2] / "app"


def _imports(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


@pytest.mark.parametrize(
    ("room", "closed_to"),
    [
        ("chat", ("app.http", "app.main", "starlette")),
        ("telemetry", ("app.",)),
    ],
)
def test_room_imports_nothing_from_beyond_its_wall(room: str, closed_to: tuple[str, ...]) -> None:
    sources = list((_APP / room).rglob("*.py"))
    assert sources
    for source in sources:
        beyond = [name for name in _imports(source) if f"{name}.".startswith(closed_to)]
        assert not beyond, f"{source.relative_to(_APP)} imports {beyond}"


def test_only_two_files_build_exporters_and_providers() -> None:
    """What fits into the SDK builds nothing that sends."""
    fitted_in = {
        f"telemetry/{name}.py"
        for name in ("encodable", "exemplars", "last_sums", "ledger", "sdk_values", "tally")
    }
    using = {
        str(source.relative_to(_APP))
        for source in _APP.rglob("*.py")
        if any(
            name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))
            for name in _imports(source)
        )
    }
    assert using == {"telemetry/setup.py", *fitted_in}
