"""Grafana in a native stack: it cannot be built here, so the user provides an unpacked one."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from stack import releases
from stack.facts import is_loopback

VERSION = "12.3.0"
MISSING = f"no Grafana {VERSION} in GRAFANA_HOME, COMPONENTS_DIR or PATH (docs/running.md)"
# Home directory in the packages of Debian and Red Hat, whose program on PATH is elsewhere.
_PACKAGED = "/usr/share/grafana"


def problems(facts: Mapping[str, str]) -> list[str]:
    """Return the problem with GRAFANA_HOME and its fix, in a list; empty if unset or valid."""
    home = facts["GRAFANA_HOME"]
    found = _version(Path(home)) if home else VERSION
    # A build with a security fix ahead of its release is 12.3.0+security-01.
    if found.partition("+")[0] == VERSION:
        return []
    there = f"Grafana {found}" if found else "no Grafana that starts (bin/grafana)"
    return [f"GRAFANA_HOME={home} has {there}: unpack Grafana {VERSION}, or unset it"]


def find(components_dir: str, path: str) -> str:
    """Return the home of a Grafana of the pinned version in COMPONENTS_DIR or PATH, or ""."""
    programs = releases.in_directory(components_dir, ["grafana"])
    if on_path := shutil.which("grafana", path=path):
        programs += [os.path.realpath(on_path), f"{_PACKAGED}/bin/grafana"]
    homes = [Path(program).parent.parent for program in programs]
    return next((str(home) for home in homes if _fits(home)), "")


def _fits(home: Path) -> bool:
    is_home = (home / "conf" / "defaults.ini").is_file() and (home / "public").is_dir()
    return is_home and _version(home).partition("+")[0] == VERSION


def locked(facts: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return a warning if a login is required and no start has created a user; else ""."""
    if is_loopback(facts["PUBLISH_HOST"]) or environ.get("GRAFANA_ADMIN_PASSWORD"):
        return ""
    return (
        f"Grafana is published at {facts['PUBLISH_HOST']}, so it requires a login: unless an"
        " earlier start created the user admin, set GRAFANA_ADMIN_PASSWORD and start again."
    )


def _version(home: Path) -> str:
    """Return the version of the Grafana in `home`, empty if none starts."""
    try:
        done = subprocess.run(
            [home / "bin" / "grafana", "--version"], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    said = re.search(r"version (\S+)", done.stdout)
    return said.group(1) if said else ""
