"""Alerts about the budgets of API keys: nearly or completely used."""

from typing import Any, Final

from alerts.objectives import Wanted
from alerts.promql import BY_SERVICE, aggregate, select
from alerts.rules import (
    SERVICE_LABEL,
    Alert,
    Area,
    Severity,
    board,
    group,
    label,
    quoted,
    spans,
    value,
)
from alerts.windows import Windows
from chatscope.names import BUDGET_LIMIT, BUDGET_UNIT, BUDGET_USED, KEY_NAME
from dashboards import links
from dashboards.variables import SERVICE

_AREA: Final[Area] = "llm"
_BY_BUDGET: Final = (*BY_SERVICE, KEY_NAME, BUDGET_UNIT)
_KEY: Final = label(KEY_NAME)


def groups(wanted: Wanted, windows: Windows) -> list[dict[str, Any]]:
    """Return the group of the alerts."""
    near = f"> {wanted.thresholds.key_budget_share:g}"
    alerts = [
        _used("KeyBudgetNearLimit", near, "warning"),
        _used("KeyBudgetExhausted", ">= 1", "critical"),
    ]
    return [group("keys", alerts, windows.interval)]


def _used(name: str, compared: str, severity: Severity) -> Alert:
    # Each worker exports the amounts of all workers.
    used = aggregate("max", select(BUDGET_USED), _BY_BUDGET)
    limit = aggregate("max", select(BUDGET_LIMIT), _BY_BUDGET)
    return Alert(
        name=name,
        expr=f"{used}\n/ {limit}\n{compared}",
        area=_AREA,
        severity=severity,
        summary=f"The key {_KEY} of {SERVICE_LABEL} used {value('humanizePercentage')} of its "
        f"daily budget ({label(BUDGET_UNIT)}).",
        value=value("humanizePercentage"),
        dashboard=board(links.LLM, **{SERVICE.name: SERVICE_LABEL}),
        query=spans(f"span.{KEY_NAME} = {quoted(KEY_NAME)}"),
    )
