"""Every endpoint that could change, stop or reveal something, and attackers of different kinds."""

import http.client
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from stack.secrets import grafana

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_NOTHING: Mapping[str, str] = {}
# The Collector responds with 500 to requests with neither a token nor a known content type.
_REFUSALS = {"401", "403", "404", "405", "415", "421", "500"}
NO_CONNECTION = "no connection"


@dataclass(frozen=True)
class Door:
    """An endpoint of a component, at the address of the fact `url`."""

    component: str
    url: str
    method: str
    path: str
    body: str = ""
    # UID of the datasource, for viewers of Grafana; None without one.
    uid: str | None = None
    # Path prefix of the component at the gateway.
    below: str = ""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


_DEBUG = "/debug/pprof/heap"


def _doors(
    component: str, url: str, text: str, *, uid: str | None = None, below: str = ""
) -> Iterator[Door]:
    for line in filter(None, map(str.strip, text.splitlines())):
        method, path, *body = line.split(maxsplit=2)
        yield Door(component, url, method, path, "".join(body), uid, below)


DOORS: Sequence[Door] = (
    *_doors(
        "Prometheus", "PROMETHEUS_URL",
        f"""
        POST /-/quit
        PUT /-/quit
        POST /-/reload
        PUT /-/reload
        POST /api/v1/write
        POST /api/v1/otlp/v1/metrics
        POST /api/v1/admin/tsdb/delete_series?match[]=up
        POST /api/v1/admin/tsdb/clean_tombstones
        POST /api/v1/admin/tsdb/snapshot
        GET {_DEBUG}
        GET /api/v1/status/config
        GET /api/v1/status/flags
        GET /api/v1/targets
        GET /federate?match[]=up
        GET /metrics
        """,
        uid="prometheus", below="/prometheus",
    ),
    *_doors(
        "Alertmanager", "ALERTMANAGER_URL",
        f"""
        POST /-/reload
        POST /api/v2/alerts [{{"labels":{{"alertname":"Forged"}}}}]
        GET {_DEBUG}
        GET /metrics
        """,
        uid="alertmanager", below="/alertmanager",
    ),
    *_doors(
        "Loki", "LOKI_URL",
        f"""
        POST /ingester/shutdown?flush=false&delete_ring_tokens=true&terminate=true
        GET /ingester/shutdown?flush=false&delete_ring_tokens=true&terminate=true
        POST /ingester/prepare_shutdown
        POST /ingester/prepare-partition-downscale
        POST /flush
        POST /log_level?log_level=debug
        POST /loki/api/v1/push {{"streams":[]}}
        POST /api/prom/push
        POST /otlp/v1/logs {{}}
        POST /loki/api/v1/delete?query={{service_name="chatscope"}}&start=1
        PUT /loki/api/v1/delete?query={{service_name="chatscope"}}&start=1
        DELETE /loki/api/v1/delete?request_id=1
        POST /loki/api/v1/rules/forged
        DELETE /loki/api/v1/rules/fake
        POST /api/prom/rules/forged
        POST /ring
        POST /compactor/ring
        POST /indexgateway/ring
        GET /memberlist
        GET /config
        GET /services
        GET {_DEBUG}
        GET /debug/fgprof
        GET /metrics
        GET /ui/api/v1/cluster/nodes
        """,
        uid="loki",
    ),
    *_doors(
        "Tempo", "TEMPO_URL",
        f"""
        GET /shutdown
        POST /shutdown
        GET /flush
        POST /flush
        POST /ingester/prepare-partition-downscale
        POST /ingester/ring
        POST /distributor/ring
        POST /compactor/ring
        POST /metrics-generator/ring
        POST /api/overrides {{}}
        PATCH /api/overrides {{}}
        DELETE /api/overrides
        GET /memberlist
        GET /status
        GET /status/config
        GET {_DEBUG}
        GET /metrics
        POST /v1/traces {{}}
        """,
        uid="tempo",
    ),
    *_doors(
        "Collector", "OTLP_HTTP_URL",
        """
        POST /v1/traces {}
        POST /v1/logs {}
        POST /v1/metrics {}
        """,
    ),
    *_doors("Collector", "APP_METRICS_URL", "GET /metrics"),
    *_doors(
        "Gateway", "GATEWAY_URL",
        """
        POST /prometheus/-/quit
        POST /prometheus/api/v1/write
        POST /alertmanager/-/reload
        POST /load
        GET /config/
        """,
    ),
)  # fmt: skip


def stranger(facts: Mapping[str, str], door: Door) -> str:
    """Send a request as a local user without a password."""
    return _ask(facts, door, {"content-type": _JSON})


def page(facts: Mapping[str, str], door: Door) -> str:
    """Send a request as a web page of another site: only requests that need no preflight."""
    method = door.method if door.method in ("GET", "POST") else "POST"
    origin = {"origin": "http://evil.example", "sec-fetch-mode": "no-cors"}
    answers = {
        _ask(facts, door, {**origin, **content}, method=method)
        for content in ({}, {"content-type": "text/plain"}, {"content-type": _FORM})
    }
    return " or ".join(sorted(answers))


def rebound(facts: Mapping[str, str], door: Door) -> str:
    """Send a request as a web page with DNS rebinding: any request, without passwords."""
    host = f"evil.example:{urlsplit(facts[door.url]).port}"
    headers = {"host": host, "origin": f"http://{host}", "content-type": _JSON}
    return _ask(facts, door, headers)


def viewer(facts: Mapping[str, str], door: Door) -> str:
    """Send a request as a Grafana viewer, which is proxied with Grafana's password."""
    if door.uid is None:
        return "none"
    headers = {"content-type": _JSON, "authorization": grafana(facts)}
    if door.below:
        through = Door(door.component, "GATEWAY_URL", door.method, f"{door.below}{door.path}")
        return _ask(facts, through, headers, body=door.body)
    return _ask(facts, door, headers)


ATTACKERS = {"stranger": stranger, "page": page, "rebound name": rebound, "viewer": viewer}


def is_refusal(result: str) -> bool:
    """Return whether every response is a rejection."""
    return result in ("none", NO_CONNECTION) or set(result.split(" or ")) <= _REFUSALS


def _ask(
    facts: Mapping[str, str],
    door: Door,
    headers: Mapping[str, str] = _NOTHING,
    *,
    method: str = "",
    body: str = "",
) -> str:
    address = urlsplit(facts[door.url])
    # A client that does not normalize the path.
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    path = door.path.replace('"', "%22").replace("{", "%7B").replace("}", "%7D")
    try:
        connection.request(
            method or door.method, path, body=(body or door.body) or None, headers=dict(headers)
        )
        return str(connection.getresponse().status)
    except ConnectionRefusedError:
        return NO_CONNECTION
    finally:
        connection.close()


def listens(host: str, port: int) -> bool:
    """Return whether connections are accepted there."""
    try:
        with socket.create_connection((host, port), timeout=3):
            return True
    except OSError:
        return False


def table(results: Mapping[Door, Mapping[str, str]]) -> str:
    """Return the results in Markdown, a row for each endpoint."""
    columns = [*ATTACKERS]
    lines = [
        f"| component | endpoint | {' | '.join(columns)} |",
        f"|---|---|{'---|' * len(columns)}",
    ]
    for door, found in results.items():
        path = door.name.replace("|", "\\|")
        cells = " | ".join(found[column] for column in columns)
        lines.append(f"| {door.component} | `{path}` | {cells} |")
    return "\n".join(lines) + "\n"
