"""Allowed imports between modules, checked by importing each in a separate process."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatscope.otlp
from stack.facts import ROOT
from tests.each import for_each

_APP = ROOT / "app"
_PACKAGE = ROOT / "chatscope"
_OTLP = ROOT / "chatscope" / "otlp"
_PUBLIC_MODULES = {
    "chatscope",
    *(f"chatscope.{name}" for name in ("genai", "logs", "names", "otlp", "redaction", "testing")),
}
# Modules that compose the application.
_COMPOSITION = ("app.main", "app.serving", "app.worker", "app.workers", "app.__main__")
_HTTP = ("starlette", "uvicorn", "http", "httptools", "websockets")
# Imports everything in a package, and prints the loaded modules.
_LOAD = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
    importlib.import_module(module.name)
print(json.dumps(list(sys.modules)))
"""


def _loaded(package: str) -> set[str]:
    command = [sys.executable, "-c", _LOAD, package]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def _imports(source: Path) -> list[str]:
    """Return the full names of everything that a module imports anywhere."""
    return list(_imported(source.read_text(), source.relative_to(ROOT).parent.parts))


def _imported(text: str, package: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _used(source: str) -> Iterator[str]:
    """Yield everything of the package that a module imports, and attributes of imported modules."""
    tree = ast.parse(source)
    modules = {"chatscope": "chatscope"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules[alias.asname or alias.name] = alias.name
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in _PUBLIC_MODULES:
                    modules[alias.asname or alias.name] = name
                yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            module = modules.get(ast.unparse(node.value), "")
            yield f"{module}.{node.attr}"


def _not_public(source: str) -> set[str]:
    public = {
        f"{module}.{name}"
        for module in _PUBLIC_MODULES
        for name in importlib.import_module(module).__all__
    }
    public |= {*_PUBLIC_MODULES, "chatscope.__version__"}
    return {name for name in _used(source) if _is_of(name, ("chatscope",))} - public


def _is_of(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _loaded_by(*modules: str) -> set[str]:
    """Return the names of all modules that importing `modules` loads."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("room", "closed_to"),
    [
        ("chatscope", ("app",)),
        ("app.domain", ("app.providers", "app.settings", "app.transport", "app.wire")),
        ("app.domain", ("starlette", "uvicorn", "openai", *_COMPOSITION)),
        ("app.providers", ("app.settings", "app.transport", "app.wire", *_COMPOSITION)),
        ("app.wire", ("app.providers", "app.settings", "app.transport", *_COMPOSITION)),
        ("app.transport", _COMPOSITION),
    ],
)
def test_room_loads_nothing_from_beyond_its_wall(room: str, closed_to: tuple[str, ...]) -> None:
    loaded = _loaded(room)
    assert room in loaded
    assert {name for name in loaded if _is_of(name, closed_to)} == set()


@pytest.mark.parametrize(
    ("room", "closed_to"),
    [
        ("app/domain", ("app.providers", "app.settings", "app.transport", "app.wire", *_HTTP)),
        ("app/providers", ("app.settings", "app.transport", "app.wire", *_COMPOSITION, *_HTTP)),
        ("app/wire", ("app.providers", "app.settings", "app.transport", "starlette", "uvicorn")),
        ("app/transport", _COMPOSITION),
        ("chatscope", ("app", "tests", "stack")),
    ],
)
def test_no_function_imports_from_beyond_the_wall(room: str, closed_to: tuple[str, ...]) -> None:
    """Loading a module does not run the imports inside of its functions."""
    sources = list((ROOT / room).rglob("*.py"))
    assert sources
    for source in sources:
        beyond = [name for name in _imports(source) if _is_of(name, closed_to)]
        assert not beyond, f"{source.relative_to(ROOT)} imports {beyond}"


def test_domain_has_no_http_status() -> None:
    """No name and no number of a status. `Upstream.status` is the status of the provider."""
    reported = {(f"{name}.py", "status") for name in ("attempt", "provider", "turn")}
    for source in (_APP / "domain").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            match node:
                case ast.Constant(value=int(number)) if 400 <= number < 600:
                    pytest.fail(f"{source.name} has the number {number}")
                case ast.Attribute(attr=name) | ast.Name(id=name) | ast.arg(arg=name):
                    assert "status" not in name or (source.name, name) in reported


def test_errors_get_their_status_in_one_place() -> None:
    mapping = {
        str(source.relative_to(_APP))
        for source in _APP.rglob("*.py")
        if "def http_status(" in source.read_text()
    }
    assert mapping == {"wire/errors.py"}


def test_only_the_package_uses_the_sdk_and_one_file_builds_providers() -> None:
    sdk = ("opentelemetry.sdk", "opentelemetry.exporter")
    using = {
        str(source.relative_to(ROOT))
        for folder in (_APP, _PACKAGE)
        for source in folder.rglob("*.py")
        if not source.is_relative_to(_OTLP) and any(_is_of(name, sdk) for name in _imports(source))
    }
    fitted_in = {
        f"chatscope/{name}.py"
        for name in (
            "direct_logs",
            "direct_spans",
            "exemplars",
            "metric_reader",
            "muting",
            "sdk_values",
            "tally",
            "testing",
        )
    }
    assert using == {"chatscope/providers.py", *fitted_in}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from ..wire import completion", "app.wire.completion"),
        ("from .. import wire", "app.wire"),
        ("from app import wire", "app.wire"),
        ("def f():\n    from app.wire.completion import x", "app.wire.completion.x"),
        ("import app.wire", "app.wire"),
        ("from opentelemetry import sdk", "opentelemetry.sdk"),
    ],
)
def test_every_way_to_import_is_seen(text: str, found: str) -> None:
    assert list(_imported(text, ("app", "domain"))) == [found]


@for_each({str(path.relative_to(ROOT)): path for path in sorted(_APP.rglob("*.py"))})
def test_service_uses_only_public_names_of_the_package(source: Path) -> None:
    assert not _not_public(source.read_text())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from chatscope.telemetry import Telemetry", {"chatscope.telemetry.Telemetry"}),
        ("from chatscope import telemetry", {"chatscope.telemetry"}),
        ("def f():\n    import chatscope.settings", {"chatscope.settings"}),
        ("import chatscope as c\nc.instruments", {"chatscope.instruments"}),
        ("import chatscope.genai\nchatscope.genai.Recorder", {"chatscope.genai.Recorder"}),
        ("from chatscope import names\nnames.METRICS", {"chatscope.names.METRICS"}),
        ("from chatscope.genai import *", {"chatscope.genai.*"}),
        ("from chatscope import names, span\nnames.ERROR_TYPE", set()),
        ("import chatscope\nchatscope.__version__", set()),
    ],
)
def test_use_of_a_private_name_is_seen(text: str, found: set[str]) -> None:
    assert _not_public(text) == found


def test_delivery_library_loads_nothing_else_of_ours() -> None:
    modules = [
        f"chatscope.otlp.{source.stem}" for source in _OTLP.glob("*.py") if source.stem[0] != "_"
    ]
    loaded = _loaded_by(*modules)
    assert set(modules) <= loaded
    ours = {name for name in loaded if name.partition(".")[0] in ("chatscope", "app")}
    assert ours - set(modules) == {"chatscope", "chatscope.otlp"}


@pytest.mark.parametrize("module", ["app.settings", "chatscope.otlp", "chatscope.otlp.settings"])
def test_variables_can_be_checked_before_the_sdk_is_loaded(module: str) -> None:
    assert not [name for name in _loaded_by(module) if name.startswith("opentelemetry")]


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
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == chatscope.otlp.__all__
