"""A local database in the OSV format, served as the API that pip-audit queries.

The format: https://ossf.github.io/osv-schema; the API: https://google.github.io/osv.dev/post-v1-query.
"""

import contextlib
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from audit.report import newest_of

Advisory = Mapping[str, Any]


class DatabaseError(RuntimeError):
    """A database that cannot be read, or that has no advisory for Python packages."""


@dataclass(frozen=True)
class Database:
    """Advisories by the canonical name of the package, and the date of the newest one."""

    advisories: Mapping[str, list[Advisory]]
    newest: datetime

    def query(self, name: str, version: str) -> list[Advisory]:
        """The advisories that affect a version. Raises InvalidVersion."""
        asked = Version(version)
        return [
            advisory
            for advisory in self.advisories.get(canonicalize_name(name), [])
            if any(
                _affects(affected, asked)
                for affected in advisory["affected"]
                if canonicalize_name(affected["package"]["name"]) == canonicalize_name(name)
            )
        ]


def read(place: Path) -> Database:
    """Read a directory with JSON or YAML files, or an archive of JSON files.

    Raises DatabaseError.
    """
    found: dict[str, list[Advisory]] = {}
    times = []
    try:
        for advisory in _entries(place):
            names = {
                canonicalize_name(affected["package"]["name"])
                for affected in advisory.get("affected", [])
                if affected.get("package", {}).get("ecosystem") == "PyPI"
            }
            if names:
                times.append(str(advisory.get("modified", "")))
            for name in names:
                found.setdefault(name, []).append(advisory)
        newest = newest_of(times)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, yaml.YAMLError) as error:
        raise DatabaseError(f"{place} cannot be read: {error}") from error
    if newest is None:
        raise DatabaseError(f"{place} has no advisory for Python packages")
    return Database(found, newest)


@contextlib.contextmanager
def served(database: Database) -> Iterator[str]:
    """The URL under which pip-audit finds the database, on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(database))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _entries(place: Path) -> Iterator[Advisory]:
    if place.is_dir():
        for file in sorted(place.rglob("*")):
            if file.suffix == ".json":
                yield json.loads(file.read_bytes())
            elif file.suffix in (".yaml", ".yml"):
                # Without timestamps, which JSON has as strings.
                yield yaml.load(file.read_bytes(), Loader=yaml.BaseLoader)  # noqa: S506
        return
    with zipfile.ZipFile(place) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield json.loads(archive.read(name))


def _affects(affected: Advisory, asked: Version) -> bool:
    if any(_equal(version, asked) for version in affected.get("versions", [])):
        return True
    return any(
        _in_range(entry["events"], asked)
        for entry in affected.get("ranges", [])
        if entry["type"] == "ECOSYSTEM"
    )


def _equal(version: str, asked: Version) -> bool:
    try:
        return Version(version) == asked
    except InvalidVersion:
        return False


def _in_range(events: list[Mapping[str, str]], asked: Version) -> bool:
    """Whether a version is affected, as the schema evaluates the events of a range."""
    parsed = [(_version(value), kind) for event in events for kind, value in event.items()]
    affected = False
    for version, kind in sorted(parsed):
        if kind == "introduced" and asked >= version:
            affected = True
        elif (kind == "fixed" and asked >= version) or (
            kind == "last_affected" and asked > version
        ):
            affected = False
    return affected


def _version(text: str) -> Version:
    # "0" is before all versions.
    return Version("0.dev0" if text == "0" else text)


def _handler(database: Database) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            try:
                asked = json.loads(self.rfile.read(length))
                found = database.query(asked["package"]["name"], asked["version"])
            except (ValueError, KeyError, TypeError) as error:
                self._respond(400, {"code": 3, "message": str(error)})
            else:
                self._respond(200, {"vulns": found} if found else {})

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: the caller reports."""

        def _respond(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
