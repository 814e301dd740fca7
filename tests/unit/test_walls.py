"""Which modules may import which, found by importing them, each in a process of its own."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatscope.otlp

_ROOT = Path(__file__).parents[2]
_APP = _ROOT / "app"
_OTLP = _ROOT / "chatscope" / "otlp"


def _imports(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def _loaded(*modules: str) -> set[str]:
    """Return the names of all modules that importing `modules` loads."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


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


def test_only_one_file_builds_exporters_and_providers() -> None:
    """Those that fit into the SDK build nothing that sends."""
    using = {
        str(source.relative_to(_APP))
        for source in _APP.rglob("*.py")
        if any(
            name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))
            for name in _imports(source)
        )
    }
    fitted_in = {f"telemetry/{name}.py" for name in ("exemplars", "sdk_values", "tally")}
    assert using == {"telemetry/setup.py", *fitted_in}


def test_delivery_library_loads_nothing_else_of_ours() -> None:
    modules = [
        f"chatscope.otlp.{source.stem}" for source in _OTLP.glob("*.py") if source.stem[0] != "_"
    ]
    loaded = _loaded(*modules)
    assert set(modules) <= loaded
    ours = {name for name in loaded if name.partition(".")[0] in ("chatscope", "app")}
    assert ours - set(modules) == {"chatscope", "chatscope.otlp"}


@pytest.mark.parametrize("module", ["app.settings", "chatscope.otlp", "chatscope.otlp.settings"])
def test_variables_can_be_checked_before_the_sdk_is_loaded(module: str) -> None:
    assert not [name for name in _loaded(module) if name.startswith("opentelemetry")]


def test_delivery_library_uses_two_private_names_of_the_sdk_in_one_module() -> None:
    private = {
        (source.name, alias.name)
        for source in _OTLP.glob("*.py")
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ImportFrom)
        and re.search(r"opentelemetry\.sdk.*\._", node.module or "")
        for alias in node.names
    }
    assert private == {("sdk.py", "LogRecordProcessor"), ("sdk.py", "ReadWriteLogRecord")}


def test_delivery_library_exports_all_its_public_names() -> None:
    code = (
        "import chatscope.otlp as it; print(*[getattr(it, name).__name__ for name in it.__all__])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == chatscope.otlp.__all__
