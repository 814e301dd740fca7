"""Small databases of advisories in the OSV format."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any


def advisory(
    identifier: str, ecosystem: str, package: str, *events: dict[str, str], age_days: float = 0
) -> dict[str, Any]:
    """One with a single range, last changed `age_days` ago."""
    modified = datetime.now(UTC) - timedelta(days=age_days)
    kind = "SEMVER" if ecosystem == "Go" else "ECOSYSTEM"
    return {
        "schema_version": "1.6.0",
        "id": identifier,
        "modified": modified.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "published": "2026-01-02T00:00:00Z",
        "aliases": [identifier.replace("TEST", "CVE")],
        "details": "A test.",
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": package},
                "ranges": [{"type": kind, "events": list(events)}],
                "ecosystem_specific": {},
            }
        ],
    }


def write(directory: Path, *advisories: dict[str, Any]) -> Path:
    """A directory with a file for each."""
    directory.mkdir(parents=True, exist_ok=True)
    for each in advisories:
        (directory / f"{each['id']}.json").write_text(json.dumps(each))
    return directory
