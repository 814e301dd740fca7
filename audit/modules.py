"""Go components: the packages that each one is linked from, by govulncheck."""

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlparse

from rich.console import Console

from audit.report import Finding, Result, newest_of
from audit.service import reachable
from stack.build import BuildError, build_missing, go_environment, sources
from stack.machine import MachineError
from stack.parts import BINARIES, Binary, binary_path
from stack.progress import Progress

DATABASE: Final = "GOVULNDB"
SERVICE: Final = "https://vuln.go.dev"
# The database's own repository, which a proxy for Go modules serves, too.
MODULE: Final = "golang.org/x/vulndb"
_SCANNER: Final = "govulncheck"
_DOWNLOAD_S: Final = 900.0
_SCAN_S: Final = 1800.0


class DatabaseError(RuntimeError):
    """There is no database of vulnerabilities to compare with."""


@dataclass(frozen=True)
class Database:
    """A database of vulnerabilities.

    `url` is the value of govulncheck's option -db, `shown` its name in the report; `newest` is None
    if govulncheck itself reports the database's date.
    """

    url: str
    shown: str
    newest: datetime | None = None


def components() -> list[Binary]:
    """The Go programs that run in the stack."""
    return [binary for binary in BINARIES if not binary.for_tests]


def check(binaries: Iterable[Binary], environ: Mapping[str, str]) -> Iterator[Result]:
    """Check components, with GOVULNDB, the service, or the database's Go module."""
    binaries = list(binaries)
    try:
        build_missing(Progress(Console(stderr=True)), only=_SCANNER)
        scanner = binary_path(_SCANNER)
        database = find_database(environ)
    except (BuildError, MachineError, DatabaseError) as error:
        for binary in binaries:
            yield Result(binary.name, "", problem=str(error))
        return
    for binary in binaries:
        yield _check(binary, scanner, database)


def find_database(environ: Mapping[str, str]) -> Database:
    """The database: GOVULNDB if set, else the service, else its Go module.

    Raises DatabaseError.
    """
    if url := environ.get(DATABASE, ""):
        return _local(url, url) if url.startswith("file:") else Database(url, url)
    if reachable(f"{SERVICE}/index/db.json.gz"):
        return Database(SERVICE, SERVICE)
    command = ["go", "mod", "download", "-json", f"{MODULE}@latest"]
    with tempfile.TemporaryDirectory(prefix="chatscope-audit-") as scratch:
        done = _go(command, Path(scratch), _DOWNLOAD_S)
    with contextlib.suppress(ValueError, KeyError):
        found = json.loads(done.stdout)
        url = (Path(found["Dir"]) / "data" / "osv").as_uri()
        return Database(url, f"{MODULE} {found['Version']}", of_version(found["Version"]))
    raise DatabaseError(
        f"neither {SERVICE} nor the Go module {MODULE} can be reached; set {DATABASE}, such as"
        " to file:///srv/vulndb"
    )


def of_version(version: str) -> datetime:
    """The time of a commit that has no release, such as v0.0.0-20261105234957-e22db6528018.

    The files of the repository have no dates; those that the service has are added later.
    Raises ValueError.
    """
    return datetime.strptime(version.split("-")[1][-14:], "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _local(url: str, shown: str) -> Database:
    directory = Path(unquote(urlparse(url).path))
    try:
        if (index := directory / "index" / "db.json").is_file():
            times = [json.loads(index.read_bytes())["modified"]]
        else:
            times = [
                json.loads(file.read_bytes()).get("modified", "")
                for file in directory.glob("*.json")
            ]
        newest = newest_of(times)
    except (OSError, ValueError, KeyError) as error:
        raise DatabaseError(f"{shown} cannot be read: {error}") from error
    if newest is None:
        raise DatabaseError(f"{shown} has no advisories with a date")
    return Database(url, shown, newest)


def _check(binary: Binary, scanner: Path, database: Database) -> Result:
    result = Result(binary.name, database.shown, newest=database.newest)
    tags = [f"-tags={binary.tags}"] if binary.tags else []
    # The packages that are linked: which of their functions are called takes a call graph, and
    # for Loki more memory and time than a build.
    command = [str(scanner), "-scan", "package", "-db", database.url, "-format", "json"]
    try:
        with sources(binary) as directory:
            done = _go([*command, *tags, binary.package], directory, _SCAN_S)
    except BuildError as error:
        return Result(result.component, result.database, problem=str(error))
    try:
        messages = list(_messages(done.stdout))
    except ValueError:
        return _unchecked(result, done)
    if done.returncode != 0 or not any("SBOM" in message for message in messages):
        return _unchecked(result, done)
    newest = result.newest or _of_the_service(messages)
    return Result(result.component, result.database, tuple(_findings(messages)), "", newest)


def _go(command: list[str], directory: Path, timeout: float) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            cwd=directory,
            env={**go_environment(), "GOFLAGS": "-mod=readonly"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _unchecked(result: Result, done: "subprocess.CompletedProcess[str]") -> Result:
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Result(result.component, result.database, problem=last[:300])


def _of_the_service(messages: Iterable[Mapping[str, Any]]) -> datetime | None:
    configs = [message["config"] for message in messages if "config" in message]
    times = [config.get("db_last_modified", "") for config in configs]
    return newest_of(times)


def _messages(text: str) -> Iterator[dict[str, Any]]:
    """The messages of https://pkg.go.dev/golang.org/x/vuln/internal/govulncheck#Message."""
    decoder, start = json.JSONDecoder(), 0
    text = text.strip()
    while start < len(text):
        message, start = decoder.raw_decode(text, start)
        yield message
        while start < len(text) and text[start].isspace():
            start += 1


def _findings(messages: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Those of packages that are linked; each vulnerability of a module once."""
    aliases: dict[str, tuple[str, ...]] = {}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for message in messages:
        if advisory := message.get("osv"):
            aliases[advisory["id"]] = tuple(advisory.get("aliases", ()))
        elif (finding := message.get("finding")) and "package" in (frame := finding["trace"][0]):
            fixed = finding.get("fixed_version", "").removeprefix("v")
            version = frame.get("version", "").removeprefix("v")
            found[finding["osv"], frame["module"]] = (version, fixed)
    for (advisory, module), (version, fixed) in found.items():
        yield Finding(advisory, aliases.get(advisory, ()), module, version, fixed)
