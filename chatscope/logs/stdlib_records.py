"""Records of the standard library: message, attributes, and those of HTTP servers in structure."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from chatscope import names
from chatscope.attributes import MAX_IDENTIFIER, MAX_PATH
from chatscope.otlp.values import describe

# The last is uvicorn's: the same message once more, in colour.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}
# uvicorn's access records: (client, method, path with query, HTTP version, status).
ACCESS_LOGGER: Final = "uvicorn.access"
_ACCESS_ARGUMENTS: Final = 5
# Its records of a WebSocket handshake: (client, path with query[, status]); else the status, or
# "[accepted]", is the last word.
SERVER_LOGGER: Final = "uvicorn.error"
_HANDSHAKE: Final = '%s - "WebSocket %s" '
# Of other servers: gunicorn.access, hypercorn.access.
_ACCESS_SUFFIX: Final = ".access"
_QUERY: Final = re.compile(r"\?[^\s\"']*")
# The request line in their default formats.
_REQUEST_LINE: Final = re.compile(r'"[A-Z]+ ([^\s"?]+)')


def content(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """Return the message and the attributes; an access record's without the query."""
    own = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if arguments := access_arguments(record):
        text, extra = access_content(arguments)
        return text, {**own, **extra}
    if record.name == SERVER_LOGGER and str(record.msg).startswith(_HANDSHAKE):
        text, extra = _handshake(record)
        return text, {**own, **extra}
    if record.name.endswith(_ACCESS_SUFFIX):
        return _QUERY.sub("", message(record)), {}
    return message(record), own


def message(record: logging.LogRecord) -> str:
    """Return the formatted message, also where formatting it raises."""
    try:
        return record.getMessage()
    except Exception:
        return f"{describe(record.msg)} {describe(record.args)}"


def access_arguments(record: logging.LogRecord) -> tuple[Any, ...] | None:
    """Return the arguments of uvicorn's access record; None for any other."""
    arguments = record.args
    if record.name == ACCESS_LOGGER and isinstance(arguments, tuple):
        return arguments if len(arguments) == _ACCESS_ARGUMENTS else None
    return None


def access_content(arguments: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    """Return the message and the attributes for the arguments of uvicorn's access record."""
    client, method, target, version, status = arguments
    path = path_of(target)
    extra = {
        names.CLIENT_ADDRESS: _address(client),
        names.HTTP_REQUEST_METHOD: method,
        names.URL_PATH: path,
        names.NETWORK_PROTOCOL_VERSION: version,
        names.HTTP_RESPONSE_STATUS_CODE: status,
    }
    return f"{method} {path} {status}", extra


def access_path(record: logging.LogRecord) -> str | None:
    """Return the path of a server's access record; None for any other, or an unknown format."""
    if arguments := access_arguments(record):
        return path_of(arguments[2])
    if record.name.endswith(_ACCESS_SUFFIX) and (found := _REQUEST_LINE.search(message(record))):
        return found[1]
    return None


def path_of(target: object) -> str:
    """Return a request target without its query, which may hold secrets, and not longer than a
    path may be."""
    return str(target).partition("?")[0][:MAX_PATH]


def _handshake(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    client, target, *_ = record.args if isinstance(record.args, tuple) else ("", "")
    path = path_of(target)
    outcome = record.getMessage().rpartition(" ")[2].replace("[accepted]", "101")
    extra = {
        names.CLIENT_ADDRESS: _address(client),
        names.URL_PATH: path,
        names.HTTP_RESPONSE_STATUS_CODE: int(outcome) if outcome.isdecimal() else None,
    }
    return f"WebSocket {path} {outcome}", extra


def _address(client: object) -> str:
    return str(client).rpartition(":")[0][:MAX_IDENTIFIER]
