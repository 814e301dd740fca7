"""Alert rules, and the rule files of Prometheus and Loki."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote

import yaml

from chatscope.names import prometheus_label
from dashboards import links
from dashboards.others import ALERT_NAME, ALERT_UNIT, ALERT_VALUE, SERVICE_NAME

RUNBOOKS: Final = "docs/runbooks"
# A template that Prometheus and Loki fill in with the alert's label.
SERVICE_LABEL: Final = f"{{{{ $labels.{prometheus_label(SERVICE_NAME)} }}}}"

Severity = Literal["critical", "warning", "none"]
Area = Literal["service", "llm", "logs", "pipeline", "objectives"]
Rule = dict[str, Any]

_HEADER: Final = """\
# What: {what}
# Loaded by: {loader}.
# Trap: written by `python -m alerts`. Change alerts/, then `make rules`.
"""


def label(name: str) -> str:
    """Return a template for the value of a label."""
    return f"{{{{ $labels.{prometheus_label(name)} }}}}"


def value(form: str = "") -> str:
    """Return a template for the value; `form` is a function of Prometheus's templates."""
    return f"{{{{ $value | {form} }}}}" if form else "{{ $value }}"


def number(digits: int = 0) -> str:
    return value(f'printf "%.{digits}f"')


def quoted(name: str) -> str:
    """The label's value as a text of LogQL and TraceQL, whatever is in it: senders of telemetry
    choose it, and it must not end the text and go on as a query of their own."""
    return f'{{{{ printf "%q" $labels.{prometheus_label(name)} }}}}'


def board(uid: str, **variables: str) -> str:
    """Return a dashboard's path with the selected variables."""
    chosen = "&".join(f"var-{name}={_encoded(text)}" for name, text in variables.items())
    return links.path(uid) + (f"?{chosen}" if chosen else "")


def _encoded(text: str) -> str:
    return text.replace(" }}", " | urlquery }}") if "{{" in text else quote(text, safe="")


def log_lines(*stages: str) -> str:
    """Return a LogQL query for the alert's service."""
    return " ".join([f"{{{prometheus_label(SERVICE_NAME)}={quoted(SERVICE_NAME)}}}", *stages])


def spans(*conditions: str) -> str:
    """Return a TraceQL query for the alert's service."""
    own = f"resource.{SERVICE_NAME} = {quoted(SERVICE_NAME)}"
    return "{ " + " && ".join([own, *conditions]) + " }"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alert; its texts are Prometheus templates."""

    name: str
    expr: str
    area: Area
    severity: Severity
    hold: str = ""
    summary: str
    value: str
    dashboard: str
    query: str
    # Replace the labels of the expression's result.
    labels: Mapping[str, str] = field(default_factory=dict)

    def rule(self) -> Rule:
        return {
            "alert": self.name,
            "expr": self.expr,
            **({"for": self.hold} if self.hold else {}),
            "labels": {"severity": self.severity, "area": self.area, **self.labels},
            "annotations": self.annotations(),
        }

    def rules(self) -> list[Rule]:
        """Return the alert rule, and a recording rule of its value for the dashboards, if any."""
        alert = self.rule()
        # For log lines, a second search of all of them would be needed.
        if "$value" not in self.value or self.area == "logs" or self.severity == "none":
            return [alert]
        labels = {ALERT_NAME: self.name, ALERT_UNIT: self._unit(), **self.labels}
        return [alert, record(ALERT_VALUE.prometheus, self.expr, **labels)]

    def _unit(self) -> str:
        forms = {"humanizePercentage": "percent", "humanizeDuration": "seconds", "USD": "usd"}
        return next((unit for form, unit in forms.items() if form in self.value), "number")

    def annotations(self) -> dict[str, str]:
        return {
            "summary": self.summary,
            "value": self.value,
            "runbook_url": runbook(self.name),
            "dashboard": self.dashboard,
            "query": self.query,
        }


def runbook(alert: str) -> str:
    return f"{RUNBOOKS}/{alert}.md"


def record(name: str, expr: str, **labels: str) -> Rule:
    return {"record": name, "expr": expr, **({"labels": labels} if labels else {})}


def group(name: str, rules: Iterable[Alert | Rule], interval: str) -> dict[str, Any]:
    made: list[Rule] = []
    for each in rules:
        if isinstance(each, Alert):
            made += each.rules()
        else:
            made.append(each)
    return {"name": name, "interval": interval, "rules": made}


class _Dumper(yaml.SafeDumper):
    """A dumper that writes multi-line texts as blocks, and all mappings in full."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else "")


_Dumper.add_representer(str, _text)


def encode(groups: Iterable[Mapping[str, Any]], what: str, loader: str) -> str:
    """Return the text of a rule file."""
    body = yaml.dump(
        {"groups": list(groups)}, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True
    )
    return _HEADER.format(what=what, loader=loader) + body
