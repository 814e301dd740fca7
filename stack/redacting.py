"""The redaction of the Collector: the rules of the package, for services without it.

`python -m stack.redacting` writes them into the Collector's configuration, between two comments.
A record is searched as in the package: for parts of secrets first, with one function call each, and
for patterns only where a part was found.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from chatscope.redaction.rules import CARDS, EMAILS, PHONES, RULES, SECRETS, USER_ID, Rule

ROOT: Final = Path(__file__).parents[1]
FILE: Final = ROOT / "otel-collector-config.yaml"
BEGIN: Final = "  # Written by `python -m stack.redacting`, which `make rules` calls: from here\n"
END: Final = "  # to here.\n"
_HEAD: Final = """\
  # Secrets and personal data of services that do not replace them themselves: the rules are those
  # of chatscope/redaction/rules.py. Not in names of attributes, links and exemplars.
  transform/redaction:
    error_mode: ignore
"""
# Where texts are: statements, their paths of attributes, and of single texts.
_PLACES: Final = {
    "trace_statements": (
        ("resource", ("resource.attributes",), ()),
        ("span", ("span.attributes",), ("span.name", "span.status.message", "span.trace_state")),
        ("spanevent", ("spanevent.attributes",), ("spanevent.name",)),
    ),
    "metric_statements": (
        ("resource", ("resource.attributes",), ()),
        ("datapoint", ("datapoint.attributes",), ()),
    ),
    "log_statements": (
        ("resource", ("resource.attributes",), ()),
        ("log", ("log.attributes",), ("log.body",)),
    ),
}
_BODY: Final = "log.body"  # a text, or a map
# In the package, digits of a text are zeros for the search; here they are what they are.
_DIGITS: Final = {"ya00.": "ya29.", "%00": "%40"}
_PHONE: Final = r"\+[ (]?[1-9]"
_CARD: Final = r"[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}"
# As in the package (redactor.py), without what has a value of another type.
_HIDDEN: Final = (
    r"(?i)(?:^|[._-])(?:authorization|cookie|passw(?:or)?d|passwd|passphrase|secret"
    r"|api[._-]?key|private[._-]?key|secret[._-]?key|access[._-]?key"
    r"|(?:access|auth|refresh|id|session|bearer)?[._-]?token)$"
)
_HIDDEN_PARTS: Final = ("authorization", "cookie", "passw", "passphrase", "secret", "key", "token")


def rendered() -> str:
    """Return the processor as YAML, with the comments around it."""
    lines = [BEGIN, _HEAD]
    for statements, places in _PLACES.items():
        lines.append(f"    {statements}:\n")
        for context, maps, texts in places:
            lines.append("      - statements:\n")
            lines += [
                f"          - {_yaml(each)}\n" for each in _statements(context, maps[0], texts)
            ]
    return "".join([*lines, END])


def _statements(context: str, attributes: str, texts: Sequence[str]) -> Iterator[str]:
    """Yield the statements for one kind of record."""
    cache = f"{context}.cache"
    text = f'{cache}["text"]'
    paths = ", ".join([*texts, attributes])
    searches = list(_searches())
    yield f'set({text}, ToLowerCase(Concat([{paths}], " ")))'
    for each in searches:
        yield f'set({cache}["{each.name}"], true) where {each.condition(text)}'
    found = [f'{cache}["{each.name}"] == true' for each in searches]
    yield f'set({cache}["any"], true) where {" or ".join(found)}'
    any_found = f'where {cache}["any"] == true'
    # What an application calls the identity of a person is its own choice.
    user = f'{attributes}["{USER_ID}"]'
    yield f'set({cache}["user"], {user}) {any_found} and {user} != nil'
    yield f'delete_key({attributes}, "{USER_ID}") where {cache}["user"] != nil'
    yield f"delete_matching_keys({attributes}, {_quoted(_HIDDEN)}) where {_any_part(text)}"
    for each, where in zip(searches, found, strict=True):
        change = f"{_quoted(each.pattern)}, {_quoted(each.mark)}) where {where}"
        yield f'replace_all_patterns({attributes}, "value", {change}'
        for path in texts:
            yield f"replace_pattern({path}, {change}"
    # Lists and maps, which are few: as JSON.
    nested = f'{cache}["json"]'
    for path in (attributes, *(each for each in texts if each == _BODY)):
        is_nested = " and not IsString(log.body)" if path == _BODY else ""
        yield f"set({nested}, String({path})) {any_found}{is_nested}"
        for each, where in zip(searches, found, strict=True):
            change = f"{_quoted(each.pattern)}, {_quoted(each.mark)}) where {where}{is_nested}"
            yield f"replace_pattern({nested}, {change}"
        is_changed = f"{nested} != String({path}){is_nested}"
        yield f"set({path}, ParseJSON({nested})) {any_found} and {is_changed}"
    yield f'set({user}, {cache}["user"]) where {cache}["user"] != nil'


@dataclass(frozen=True)
class _Search:
    """Rules that are applied together."""

    name: str
    pattern: str
    mark: str
    needles: Sequence[str]
    # In the place of needles: Go finds a pattern that begins with a character as fast as a text.
    begin: str | None = None

    def condition(self, text: str) -> str:
        """Return whether a text may have a match."""
        if self.begin is not None:
            return f"IsMatch({text}, {_quoted(self.begin)})"
        return _any_of(text, self.needles)


def _searches() -> Iterator[_Search]:
    rules = [rule for rule in RULES if rule.re2()]
    secrets = [rule for rule in rules if rule.kind == SECRETS]
    tokens = [rule for rule in secrets if not rule.groups]
    yield _search("tokens", tokens, "<redacted secret>")
    yield _search("assigned", [rule for rule in secrets if rule.groups], "<redacted secret>")
    for kind, begin in ((EMAILS, None), (CARDS, _CARD), (PHONES, _PHONE)):
        [rule] = [rule for rule in rules if rule.kind == kind]
        yield replace(_search(kind, [rule], rule.mark), begin=begin)


def _search(name: str, rules: Sequence[Rule], mark: str) -> _Search:
    """Join the patterns of rules. Of their groups, one match has those of one rule only."""
    before: list[str] = []
    after: list[str] = []
    number = 0
    for rule in rules:
        if rule.groups:
            before.append(f"${number + 1}")
            after.append(f"${number + rule.groups}")
            number += rule.groups
    pattern = "|".join(rule.re2() for rule in rules)
    needles = {_DIGITS.get(needle, needle) for rule in rules for needle in rule.needles}
    return _Search(name, pattern, "".join([*before, mark, *after]), sorted(needles))


def _any_part(text: str) -> str:
    return _any_of(text, _HIDDEN_PARTS)


def _any_of(text: str, needles: Sequence[str]) -> str:
    return " or ".join(f"Index({text}, {_quoted(needle)}) >= 0" for needle in needles)


def _quoted(text: str) -> str:
    """Return a text as a literal of OTTL; the Collector replaces $ before."""
    return json.dumps(text).replace("$", "$$")


def _yaml(statement: str) -> str:
    return "'" + statement.replace("'", "''") + "'"


def written(configuration: str) -> str:
    """Return a configuration with the processor as it is now."""
    before, _, rest = configuration.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{rendered()}{after}"


def main() -> int:
    """Write the file."""
    FILE.write_text(written(FILE.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
