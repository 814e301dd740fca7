"""Links into Grafana, and whether it is there."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from chatscope.cli.addresses import GRAFANA, Addresses
from chatscope.cli.backend import Backend
from chatscope.cli.errors import CommandError

HEALTH: Final = "/api/health"
# The stack's datasources have these UIDs.
DATASOURCES: Final = ("prometheus", "loki", "tempo")
_PATIENCE_SECONDS: Final = 1.0


def trace_url(grafana_url: str, trace_id: str) -> str:
    """Return the address at which Grafana shows a trace."""
    return explore_url(grafana_url, "tempo", {"queryType": "traceql", "query": trace_id})


def explore_url(grafana_url: str, datasource: str, query: Mapping[str, Any]) -> str:
    """Return the address of a query in Explore, over the last hour.

    Source: https://grafana.com/docs/grafana/latest/explore/get-started-with-explore/
    """
    named = {"refId": "A", "datasource": {"type": datasource, "uid": datasource}, **query}
    pane = {"datasource": datasource, "queries": [named], "range": {"from": "now-1h", "to": "now"}}
    panes = json.dumps({"a": pane}, separators=(",", ":"))
    return f"{grafana_url}/explore?schemaVersion=1&orgId=1&panes={quote(panes, safe='')}"


def reachable_url(addresses: Addresses, given: str | None = None) -> str | None:
    """Return Grafana's URL for links; None where none runs.

    One that an option or a variable names is believed. Raise CommandError.
    """
    url = addresses.url(GRAFANA, given)
    if given or addresses.is_expected(GRAFANA) or answers(addresses.stack.get("GRAFANA_URL", url)):
        return url
    return None


def answers(url: str) -> bool:
    """Return whether a Grafana responds at a URL."""
    try:
        response = Backend(GRAFANA.name, url).request("GET", HEALTH, timeout=_PATIENCE_SECONDS)
    except CommandError:
        return False
    return response.status_code == HTTPStatus.OK
