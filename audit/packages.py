"""Python packages: each requirements file, by pip-audit."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from audit import osv
from audit.report import Finding, Result
from audit.service import reachable

DATABASE: Final = "OSV_DATABASE"
SERVICE: Final = "api.osv.dev"
_TIMEOUT_S: Final = 600.0


def check(files: list[Path], environ: Mapping[str, str]) -> Iterator[Result]:
    """Check requirements files whose entries are all pinned, with OSV_DATABASE or the service."""
    place = environ.get(DATABASE, "")
    if not place:
        reached = reachable(f"https://{SERVICE}/v1/query")
        for file in files:
            result = Result(file.name, SERVICE)
            yield (
                _check(file, SERVICE, result)
                if reached
                else _unchecked(result, f"{SERVICE} cannot be reached; set {DATABASE}")
            )
        return
    try:
        database = osv.read(Path(place))
    except osv.DatabaseError as error:
        for file in files:
            yield Result(file.name, place, problem=str(error))
        return
    with osv.served(database) as url:
        for file in files:
            yield _check(file, url, Result(file.name, place, newest=database.newest))


def _check(file: Path, service: str, result: Result) -> Result:
    with tempfile.TemporaryDirectory(prefix="chatscope-audit-") as scratch:
        output = Path(scratch) / "found.json"
        url = [] if service == SERVICE else ["--osv-url", service]
        command = [
            *(sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", *url),
            *("--require-hashes", "--disable-pip", "--progress-spinner", "off"),
            *("--format", "json", "--output", str(output), "--requirement", str(file)),
        ]
        # The environment's proxies are for hosts elsewhere.
        environ = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        try:
            done = subprocess.run(
                command,
                env=environ if url else None,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _unchecked(result, f"pip-audit did not end within {_TIMEOUT_S:.0f} s")
        with contextlib.suppress(OSError, ValueError):
            # It exits with 1 both for findings and for its own failures.
            found = json.loads(output.read_text())
            return Result(
                result.component,
                result.database,
                tuple(_findings(found)),
                _skipped(found),
                result.newest,
            )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return _unchecked(result, last[:300])


def _unchecked(result: Result, problem: str) -> Result:
    return Result(result.component, result.database, problem=problem)


def _skipped(found: Mapping[str, Any]) -> str:
    names = [each["name"] for each in found["dependencies"] if "skip_reason" in each]
    return f"pip-audit skipped {', '.join(names)}" if names else ""


def _findings(found: Mapping[str, Any]) -> Iterator[Finding]:
    for package in found["dependencies"]:
        for each in package.get("vulns", []):
            yield Finding(
                each["id"],
                tuple(each["aliases"]),
                package["name"],
                package["version"],
                ", ".join(each["fix_versions"]),
            )
