"""Firing alerts, from Alertmanager."""

from collections.abc import Mapping

import httpx2

from stack.secrets import backend_client

# Always firing; only its absence is a fault.
_WATCHDOG = "Watchdog"


def firing(facts: Mapping[str, str]) -> list[str] | None:
    """Return the names of firing alerts, each once; None if Alertmanager does not respond."""
    try:
        with backend_client(facts, "ALERTMANAGER_URL", timeout=2.0) as client:
            answer = client.get("/api/v2/alerts", params={"active": "true", "silenced": "false"})
            found = answer.raise_for_status().json()
    except (httpx2.HTTPError, ValueError):
        return None
    names = (str(alert["labels"].get("alertname", "")) for alert in found)
    return [name for name in dict.fromkeys(names) if name != _WATCHDOG]
