"""docs/api.md, held against the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.routing import Route, WebSocketRoute

from app.domain.errors import (
    InternalError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ShuttingDown,
)
from app.domain.provider import ProviderError
from app.main import create_app
from app.providers.failures import BY_STATUS
from app.providers.simulated_failures import PLAIN
from app.settings import Settings
from app.wire.errors import http_status
from app.wire.request import completion_request
from app.wire.websocket import Question
from tests.memory import Memory
from tests.unit.serving import quick

_ROOT = Path(__file__).parents[3]
_PAGE = (_ROOT / "docs" / "api.md").read_text()
_LIMITS = Settings.read({}).limits()


def _table(heading: str, title: str) -> list[list[str]]:
    """The rows of the first table below `heading` whose first column is `title`."""
    section = _PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = iter(section.splitlines())
    rows = []
    for line in lines:
        if line.startswith(f"| {title} |"):
            next(lines)
            for row in lines:
                if not row.startswith("|"):
                    break
                rows.append([cell.strip() for cell in row.strip("|").split("|")])
    return rows


def _names(rows: list[list[str]]) -> list[str]:
    return [row[0].strip("`") for row in rows]


def test_every_checked_parameter_is_documented() -> None:
    """An object is none of the types that are accepted."""
    documented = set(_names(_table("Parameters of a completion", "parameter")))
    names = {*documented, "temperature", "tools", "n", "user", "something_new"}
    refused = set()
    for name in names:
        body = {"messages": [{"role": "user", "content": "hi"}], name: {"include_usage": 1}}
        try:
            completion_request(body, {})
        except InvalidRequest as error:
            refused.add(str(error.param).partition(".")[0])
    assert refused == documented


def test_every_endpoint_is_documented(memory: Memory) -> None:
    served = set()
    for route in create_app(quick(), providers=memory.providers).routes:
        if isinstance(route, WebSocketRoute):
            served.add(f"WS {route.path}")
        elif isinstance(route, Route) and route.include_in_schema:
            method = "POST" if route.methods and "POST" in route.methods else "GET"
            served.add(f"{method} {route.path.replace(':path', '')}")
    assert set(_names(_table("Endpoints", "endpoint"))) == served


def test_every_limit_is_documented_with_its_setting() -> None:
    rows = _table("Limits", "limit")
    assert _names(rows) == list(_LIMITS)
    variables = {str(field.validation_alias) for field in Settings.model_fields.values()}
    assert {row[1].strip("`") for row in rows} <= variables


def test_every_field_of_a_question_is_documented() -> None:
    rows = {row[0].strip("`"): row[1] for row in _table("WebSocket", "to the service")}
    for name in Question.model_fields:
        assert f"`{name}`" in rows["message"]
    accepted = re.findall(r"'(\w+)'", _text_of_unknown_type())
    assert list(rows) == accepted


def _text_of_unknown_type() -> str:
    source = (_ROOT / "app" / "wire" / "websocket.py").read_text()
    return next(line for line in source.splitlines() if "Invalid 'type'" in line).replace(
        "'type'", ""
    )


def test_every_message_to_the_client_is_documented_with_its_fields() -> None:
    rows = {row[0].strip("`"): row[1] for row in _table("WebSocket", "from the service")}
    sent = {"error": {"type", "error", "trace_id"}}
    for node in ast.walk(_tree("wire/websocket.py")):
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            first = node.values[0] if node.values else None
            if keys[:1] == ["type"] and isinstance(first, ast.Constant):
                sent[str(first.value)] = {str(key) for key in keys}
    assert rows.keys() == sent.keys()
    for kind, fields in sent.items():
        for field in fields:
            assert f"`{field}`" in rows[kind], f"{kind}: {field}"


def test_every_code_is_documented_with_its_status() -> None:
    documented = {(row[0].strip("`"), int(row[1])) for row in _table("Errors", "code")}
    assert documented == _codes()


def _codes() -> set[tuple[str, int]]:
    """All codes with their statuses: those built from names, and those in the source."""
    built = {
        (error.code, http_status(error))
        for error in (
            InternalError(),
            ShuttingDown(),
            ModelNotFound("", []),
            Overloaded("answers", 1),
            Overloaded("connections", 1),
        )
    }
    checked = {
        (f"too_many_{name}", 400)
        for name in _LIMITS
        if f"max_{name}" in Settings.read({}).request_limits
    }
    routing = {("not_found", 404), ("method_not_allowed", 405)}
    theirs = {(code, http_status(ProviderError(code, ""))) for code, _ in BY_STATUS.values()}
    theirs.add((PLAIN, http_status(ProviderError(PLAIN, ""))))
    return built | checked | routing | theirs | set(_codes_in_source()) | {("invalid_request", 400)}


def _codes_in_source() -> Iterator[tuple[str, int]]:
    for path in ("domain", "providers", "transport", "wire"):
        for source in sorted((_ROOT / "app" / path).glob("*.py")):
            for node in ast.walk(_tree(f"{path}/{source.name}")):
                if isinstance(node, ast.Call):
                    yield from _code_of_call(node)
                elif isinstance(node, ast.Tuple):
                    yield from _provider_code(node.elts)


def _code_of_call(call: ast.Call) -> Iterator[tuple[str, int]]:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    named = {keyword.arg: _constant(keyword.value) for keyword in call.keywords}
    arguments = [_constant(argument) for argument in call.args]
    match name, arguments:
        case "ProviderError", [str(code), *_]:
            yield code, http_status(ProviderError(code, ""))
        case "_refuse", [int(status), str(code), _]:
            yield code, status
        case "_unsupported", [*_, str(code)]:
            yield code, 415
        case "HttpError", [int(status), *_] if isinstance(named.get("code"), str):
            yield named["code"], status
        case "InvalidRequest", _ if isinstance(named.get("code"), str):
            yield named["code"], 400


def _provider_code(values: list[ast.expr]) -> Iterator[tuple[str, int]]:
    """Return the code of a pair such as `("server_error", "failed")` in failures."""
    match [_constant(value) for value in values]:
        case ["server_error" | "bad_response" as code, _]:
            yield code, http_status(ProviderError(code, ""))


def _constant(node: ast.expr | None) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def _tree(path: str) -> ast.Module:
    return ast.parse((_ROOT / "app" / path).read_text())
