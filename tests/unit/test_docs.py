"""The documentation agrees with the code."""

import ast
import re
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import chatscope
from app.settings import VERSION, Settings
from chatscope import genai, logs, names, otlp, redaction, testing
from chatscope.cli.addresses import PLACES
from chatscope.names import METRICS, Metric
from stack import facts, grafana, releases
from stack.images import IMAGES
from tests.each import for_each

_ROOT = Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text()
_TELEMETRY = (_ROOT / "docs" / "telemetry.md").read_text()
_MAKEFILE = (_ROOT / "Makefile").read_text()
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))]
_DEVELOPMENT = (_ROOT / "docs" / "development.md").read_text()
_SETTINGS = (_ROOT / "docs" / "settings.md").read_text()
_OF_THE_SERVICE, _, _OF_THE_STACK = _SETTINGS.partition("\n## The stack\n")


def _rows(text: str) -> list[list[str]]:
    """The cells of all table rows; a pipe inside a cell is escaped."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def _row(text: str, first: str) -> list[str]:
    found = [row for row in _rows(text) if row[0] == f"`{first}`"]
    assert len(found) == 1, f"{len(found)} rows for {first}"
    return found[0]


@for_each({metric.name: metric for metric in METRICS})
def test_metric_is_documented_as_it_is(metric: Metric) -> None:
    _, prometheus, kind, attributes, meaning = _row(_TELEMETRY, metric.name)
    assert prometheus == f"`{metric.prometheus}`"
    assert kind == f"{metric.kind.value.replace('_', '-')}, {metric.unit}"
    assert re.findall("`([^`]+)`", attributes) == list(metric.attributes)
    assert meaning == metric.description


@for_each({name: name for name in Settings.model_fields})
def test_setting_is_documented_as_it_is(name: str) -> None:
    field = Settings.model_fields[name]
    _, default, meaning, accepted = _row(_OF_THE_SERVICE, str(field.validation_alias))
    shown = "unset" if field.default in (None, ()) else f"`{field.default!s}`"
    shown = shown.lower() if isinstance(field.default, bool) else shown
    if isinstance(field.default, tuple) and field.default:
        shown = f"`{','.join(field.default)}`"
    assert default == shown
    assert meaning == field.description
    assert isinstance(field.json_schema_extra, dict)
    assert accepted == field.json_schema_extra["accepts"]


def test_every_fact_of_the_stack_is_documented_with_its_default() -> None:
    loaded = facts.load({})
    for name in (
        *facts.ports(loaded),
        "RETENTION",
        "COLLECTOR_QUEUE_BYTES",
        "PUBLISH_HOST",
        "GRAFANA_PUBLIC_URL",
    ):
        assert _row(_OF_THE_STACK, name)[1] == f"`{loaded[name]}`"
    assert _row(_SETTINGS, "STATE_DIR")[1] == f"`{facts.DEFAULT_STATE_DIR}`"
    assert _row(_SETTINGS, "RULES_DIR")[1] == "`.`"
    for name in ("GRAFANA_HOME", "COMPONENTS_DIR"):
        assert loaded[name] == ""
        assert _row(_OF_THE_STACK, name)[1] == "unset"


def test_documented_releases_are_those_that_fit() -> None:
    page = (_ROOT / "docs" / "running.md").read_text()
    section = page.partition("## Official releases\n")[2].partition("\n## ")[0]
    listed = {row[1].partition(",")[0].strip("`"): (row[0], row[2]) for row in _rows(section)[1:]}
    assert listed.pop("grafana") == ("Grafana", grafana.VERSION)
    assert listed == {
        project.files[0]: (project.name, releases.wanted(program))
        for program, project in releases.PROJECTS.items()
    }


def test_addresses_of_the_terminal_are_documented_as_they_are() -> None:
    page = (_ROOT / "docs" / "terminal.md").read_text()
    for place in PLACES:
        if place.default:
            assert _row(page, place.variable)[2] == f"`{place.default}`"


def test_grafana_of_the_documents_is_the_one_that_is_taken() -> None:
    for page in (_README, _SETTINGS):
        assert set(re.findall(r"Grafana (\d+\.\d+\.\d+)", page)) == {grafana.VERSION}


def test_readme_and_development_list_exactly_the_commands_that_there_are() -> None:
    documented = set(re.findall(r"^([a-z-]+):.*?## ", _MAKEFILE, re.MULTILINE)) - {"help"}
    rows = [*_rows(_README), *_rows(_DEVELOPMENT)]
    listed = [row[0].strip("`") for row in rows if row[0].startswith("`make ")]
    assert sorted(listed) == sorted(f"make {name}" for name in documented)


def test_five_lines_of_the_readme_are_in_the_application_of_the_quickstart() -> None:
    block, _ = re.findall(r"^```python\n(.*?)^```", _README, re.MULTILINE | re.DOTALL)
    page = (_ROOT / "docs" / "quickstart.md").read_text()
    [application] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0] for line in application.splitlines()]
    positions = [lines.index(line) for line in block.splitlines() if line]
    assert len(positions) == 4
    assert positions == sorted(positions)


def test_make_help_is_grouped_and_fits_80_columns() -> None:
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("  make ")] == ["Use", "Prove", "Develop"]
    documented = re.findall(r"^([a-z-]+):.*?## ", _MAKEFILE, re.MULTILINE)
    assert [line.split()[1] for line in lines if line.startswith(" ")] == documented
    assert max(map(len, lines)) <= 80


@for_each({str(page.relative_to(_ROOT)): page for page in _PAGES})
def test_every_command_in_a_page_exists(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", _MAKEFILE, re.MULTILINE))
    # In code only: in a sentence, "make" is a verb.
    code = re.findall(r"`[^`\n]+`", text) + re.findall(r"^```.*?^```", text, re.M | re.DOTALL)
    for command in code:
        assert set(re.findall(r"\bmake ([a-z-]+)", command)) <= targets, command
        for module in re.findall(r"-m ((?:stack|demo|ledger|drill|bench)[\w.]*)", command):
            assert find_spec(module), command


def test_ports_in_the_texts_are_those_of_the_stack() -> None:
    known = {value for name, value in facts.load({}).items() if name.endswith("_PORT")}
    for page in (_README, _TELEMETRY, _SETTINGS):
        assert set(re.findall(r"127\.0\.0\.1:(\d+)", page)) - {"11434"} <= known


def test_version_is_the_same_everywhere() -> None:
    found = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    assert found["tool"]["hatch"]["version"]["path"] == "chatscope/__init__.py"
    assert chatscope.__version__ == VERSION
    text = (_ROOT / "docs" / "your-service.md").read_text()
    assert set(re.findall(r"chatscope-([0-9][^-]*)-py3", text)) == {VERSION}


def _anchors(page: Path) -> set[str]:
    """What its headings are called in links, as GitHub spells it."""
    headings = re.findall("^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub("[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in headings}


def test_licences_name_the_versions_of_the_stack() -> None:
    text = (_ROOT / "docs" / "licences.md").read_text()
    versions = {row[0].split()[-1].lower(): row[1] for row in _rows(text)}
    listed = {"collector": versions.pop("contrib"), "init": versions.pop("busybox")}
    listed |= {"gateway": versions.pop("caddy"), "store": versions.pop("valkey"), **versions}
    for image in IMAGES:
        assert listed[image.part] == re.match(r"v?([\d.]+)", image.tag)[1]  # type: ignore[index]


def test_links_lead_to_files_and_headings() -> None:
    for page in (_ROOT / "README.md", *(_ROOT / "docs").rglob("*.md")):
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text()):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in _anchors(file), f"{page.name}: {target}#{anchor}"


_PROMISES = _DEVELOPMENT.partition("## Promises of time and their tests\n")[2].partition("\n## ")[0]


def _tests(file: Path) -> set[str]:
    """The names of the test functions of a module."""
    nodes = ast.parse(file.read_text()).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in nodes if isinstance(node, kinds) and node.name.startswith("test")}


@pytest.mark.parametrize("row", _rows(_PROMISES)[1:], ids=lambda row: row[0])
def test_promise_of_time_names_tests_that_exist(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)::([^`]+)`", row[-1])
    assert row[-1] == ", ".join(f"`{file}::{name}`" for file, name in named) != ""
    for file, name in named:
        assert name in _tests(_ROOT / file), f"{file}::{name}"


def test_every_duration_among_the_settings_is_a_promise_with_a_test() -> None:
    durations = {
        str(field.validation_alias)
        for name, field in Settings.model_fields.items()
        if name.endswith(("_seconds", "_delay", "_interval"))
    }
    assert durations - set(re.findall(r"[A-Z][A-Z_]+", _PROMISES)) == set()


def test_your_service_lists_exactly_the_public_names() -> None:
    text = (_ROOT / "docs" / "your-service.md").read_text().partition("## Public names")[2]
    listed = {
        f"{module}.{name}"
        for modules, exported, _ in _rows(text)[1:]
        for module in re.findall("`(.+?)`", modules)
        for name in re.findall("`(.+?)`", exported)
    }
    public = {
        f"{module.__name__}.{name}"
        for module in (chatscope, genai, logs, otlp, redaction, testing)
        for name in module.__all__
    }
    assert listed == public | {"chatscope.names.ERROR_TYPE"}
    assert "ERROR_TYPE" in names.__all__
