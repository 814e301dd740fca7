"""The Grafana that tests look at: GRAFANA_URL, or that of the stack; else they are skipped."""

import os

import pytest

from tests.running import Stack


def grafana_url(stack: Stack) -> str:
    """Where it is; skips, with the reason, where there is none."""
    # Of a stack that has none of its own, the variable names another one.
    missing = stack.running.missing.get("grafana")
    if missing and not os.environ.get("GRAFANA_URL"):
        pytest.skip(f"no Grafana: {missing}")
    return stack.facts["GRAFANA_URL"]
