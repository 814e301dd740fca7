"""Results of an audit: findings, accepted ones, and what could not be checked."""

import tomllib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

FOUND: Final = 1
INCOMPLETE: Final = 2
ACCEPTED: Final = Path(__file__).with_name("accepted.toml")


@dataclass(frozen=True)
class Finding:
    """A known vulnerability of a pinned package; `fixed` is "" while there is no fix."""

    advisory: str
    aliases: tuple[str, ...]
    package: str
    version: str
    fixed: str

    @property
    def names(self) -> set[str]:
        """The ID of the advisory, and those of the same vulnerability elsewhere."""
        return {self.advisory, *self.aliases}


@dataclass(frozen=True)
class Result:
    """The check of one component.

    `problem` says why it could not be checked; `newest` is the date of the newest advisory in a
    stored database, None for a service that is asked.
    """

    component: str
    database: str
    findings: tuple[Finding, ...] = ()
    problem: str = ""
    newest: datetime | None = None


@dataclass(frozen=True)
class Acceptance:
    """Advisories that a component is used with, the reason, and the last day of that."""

    components: tuple[str, ...]
    advisories: tuple[str, ...]
    until: date
    reason: str


@dataclass
class Report:
    """The lines to print and the exit code."""

    lines: list[str] = field(default_factory=list)
    code: int = 0

    def add(self, line: str, code: int = 0) -> None:
        """Append a line; a code is combined with the earlier ones."""
        self.lines.append(line)
        self.code |= code


def read_accepted(file: Path = ACCEPTED) -> list[Acceptance]:
    """Return the accepted advisories. Raises KeyError if an entry is incomplete."""
    return [
        Acceptance(
            tuple(entry["components"]), tuple(entry["advisories"]), entry["until"], entry["reason"]
        )
        for entry in tomllib.loads(file.read_text()).get("accepted", [])
    ]


def report(
    results: Iterable[Result], accepted: Collection[Acceptance], now: datetime, max_age_days: float
) -> Report:
    """Summarize the results.

    The exit code is the sum of FOUND (a vulnerability that is not accepted) and INCOMPLETE (a
    component that could not be checked, or only with a database older than `max_age_days`).
    """
    made = Report()
    for result in results:
        if result.problem:
            made.add(f"{result.component}: NOT CHECKED: {result.problem}", INCOMPLETE)
            if not result.findings:
                continue
        _add_findings(made, result, accepted, now.date())
        if result.newest is not None:
            age = (now - result.newest).total_seconds() / 86400
            if age > max_age_days:
                made.add(
                    f"  OLD DATABASE: {result.database} ends {result.newest:%Y-%m-%d},"
                    f" {age:.0f} days ago (at most {max_age_days:g} are accepted)",
                    INCOMPLETE,
                )
    return made


def _add_findings(
    made: Report, result: Result, accepted: Collection[Acceptance], today: date
) -> None:
    reasons: dict[str, set[str]] = {}
    open_ones = []
    for finding in result.findings:
        entry = _acceptance(finding, result.component, accepted, today)
        if entry is None:
            open_ones.append(finding)
        else:
            key = f"{entry.reason} (until {entry.until})"
            reasons.setdefault(key, set()).add(finding.advisory)
    # One may concern several modules.
    count = len({finding.advisory for finding in open_ones})
    known = (
        f"{count} known vulnerabilit{'y' if count == 1 else 'ies'}" if count else "nothing known"
    )
    more = f", {sum(map(len, reasons.values()))} accepted" if reasons else ""
    made.add(f"{result.component}: {known}{more} ({result.database})", FOUND if open_ones else 0)
    made.lines += [f"  {line}" for line in _by_package(open_ones)]
    for reason, ids in reasons.items():
        made.add(f"  accepted, {', '.join(sorted(ids))}: {reason}")


def _acceptance(
    finding: Finding, component: str, accepted: Collection[Acceptance], today: date
) -> Acceptance | None:
    for entry in accepted:
        fits = component in entry.components and finding.names & set(entry.advisories)
        if fits and today <= entry.until:
            return entry
    return None


def _by_package(findings: Iterable[Finding]) -> Iterator[str]:
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for each in findings:
        cve = next((name for name in each.aliases if name.startswith("CVE-")), "")
        label = f"{each.advisory} ({cve})" if cve else each.advisory
        grouped.setdefault((each.package, each.version, each.fixed), []).append(label)
    for (package, version, fixed), labels in sorted(grouped.items()):
        mend = f"fixed in {fixed}" if fixed else "no fix"
        yield f"{package} {version}, {mend}: {', '.join(sorted(labels))}"


def newest_of(times: Iterable[str]) -> datetime | None:
    """The latest of RFC 3339 timestamps; None without any. Year 1 is none."""
    found = [datetime.fromisoformat(each) for each in times if each and each[:4] != "0001"]
    return max((each if each.tzinfo else each.replace(tzinfo=UTC) for each in found), default=None)
