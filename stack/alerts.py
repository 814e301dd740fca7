"""The alerts that fire, as Alertmanager has them."""

from collections.abc import Mapping

import httpx2

from stack.secrets import backend_client

# It always fires: its absence is the alarm.
_WATCHDOG = "Watchdog"


def firing(facts: Mapping[str, str]) -> list[str] | None:
    """The names of the alerts that fire, each once; None when Alertmanager does not answer."""
    try:
        with backend_client(facts, "ALERTMANAGER_URL", timeout=2.0) as client:
            answer = client.get("/api/v2/alerts", params={"active": "true", "silenced": "false"})
            found = answer.raise_for_status().json()
    except (httpx2.HTTPError, ValueError):
        return None
    names = (str(alert["labels"].get("alertname", "")) for alert in found)
    return [name for name in dict.fromkeys(names) if name != _WATCHDOG]
