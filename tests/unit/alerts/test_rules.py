"""The generated rules: classes of failures, and the windows of a drill."""

import re
from typing import Any

import pytest

from alerts import llm, pipeline, service
from alerts.objectives import read
from alerts.windows import DRILL, NORMAL
from app.providers import failures, simulated_failures
from stack.facts import ROOT

_PROVIDERS = ROOT / "app" / "providers"
# Caused by our configuration or by the request: no failure of the provider.
_OURS = {"authentication", "permission_denied", "not_found", "invalid_request"}


def test_each_failure_of_a_provider_is_of_one_kind() -> None:
    raised = {
        name
        for source in _PROVIDERS.glob("*.py")
        for name in re.findall(r'ProviderError\(\s*"(\w+)"', source.read_text())
    }
    raised |= {known[0] for known in failures.BY_STATUS.values()}
    raised |= {"server_error", "bad_response", simulated_failures.PLAIN}
    kinds = [*llm.RATE_LIMITED, *llm.SERVER_ERRORS, *llm.TIMEOUTS]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == raised - _OURS


@pytest.mark.parametrize("module", [llm, pipeline, service])
def test_drill_has_the_same_alerts_that_come_sooner(module: object) -> None:
    wanted = read()

    def alerts(windows: object) -> dict[str, dict[str, Any]]:
        groups = module.groups(wanted, windows)  # type: ignore[attr-defined]
        rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
        return {rule["alert"]: rule for rule in rules}

    normal, drill = alerts(NORMAL), alerts(DRILL)
    assert set(normal) == set(drill)
    for name, rule in drill.items():
        assert rule["labels"] == normal[name]["labels"]
        assert _without_times(rule) == _without_times(normal[name])
        assert ("for" in rule) == ("for" in normal[name])


def _without_times(rule: dict[str, Any]) -> dict[str, str]:
    """Return its annotations without the time range."""
    return {name: re.sub(r"\b\d+[smhd]\b", "…", text) for name, text in rule["annotations"].items()}
