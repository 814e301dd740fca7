"""The test cases of each alert with only the rules that it depends on.

promtool evaluates all rules of a file at each step of each case: 35 rules of the pipeline for each
of its 35 cases take 14 seconds, this takes one.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from tests.config.files import parsed

_WORD = re.compile(r"[A-Za-z_:][\w:]*")


def write_focused(tests: Path, rules: Path, directory: Path) -> list[Path]:
    """Write the cases of the file `tests`, one file per alert; `rules` is the folder of rules."""
    content = parsed(tests)
    groups = [group for name in content["rule_files"] for group in parsed(rules / name)["groups"]]
    by_rules: dict[frozenset[str], list[dict[str, Any]]] = defaultdict(list)
    for test in content["tests"]:
        asked = {case["alertname"] for case in test["alert_rule_test"]}
        by_rules[_with_dependencies(asked, groups)].append(test)
    return [
        _write(
            directory / f"{tests.name.partition('.')[0]}-{number}", content, names, cases, groups
        )
        for number, (names, cases) in enumerate(by_rules.items())
    ]


def _name(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


def _with_dependencies(names: set[str], groups: list[dict[str, Any]]) -> frozenset[str]:
    """Return the names, and those of all rules that their expressions refer to."""
    rules = [rule for group in groups for rule in group["rules"]]
    known, found = {_name(rule) for rule in rules}, set(names)
    while True:
        texts = [rule["expr"] for rule in rules if _name(rule) in found]
        more = {word for text in texts for word in _WORD.findall(text)} & known - found
        if not more:
            return frozenset(found)
        found |= more


def _write(
    stem: Path,
    content: dict[str, Any],
    names: frozenset[str],
    cases: list[dict[str, Any]],
    groups: list[dict[str, Any]],
) -> Path:
    focused = [
        {**group, "rules": kept}
        for group in groups
        if (kept := [rule for rule in group["rules"] if _name(rule) in names])
    ]
    rules, tests = stem.with_suffix(".rules.yaml"), stem.with_suffix(".test.yaml")
    rules.write_text(yaml.safe_dump({"groups": focused}))
    order = [group["name"] for group in focused]
    own = {"rule_files": [rules.name], "group_eval_order": order, "tests": cases}
    tests.write_text(yaml.safe_dump({**content, **own}))
    return tests
