"""Grafana at run time: it finds the backends, is readable locally, and can be changed by nobody."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from stack import grafana
from stack.local_http import local_client
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.grafana import grafana_alone

_UIDS = ("prometheus", "loki", "tempo", "alertmanager")
_PASSWORD = "known to this test alone"
_PUBLIC_URL = "https://example.org/grafana"
# Port offset; differs from the stacks'.
_PORT = "16001"


@pytest.fixture(scope="module")
def log(stack: Stack) -> str:
    """Return its log so far, before a test sends requests that it must reject."""
    if missing := stack.running.missing.get("grafana"):
        pytest.skip(f"no Grafana: {missing}")
    return stack.running.log_tail("grafana", 10_000)


@pytest.fixture(scope="module")
def visitor(stack: Stack, log: str) -> Iterator[httpx2.Client]:
    """Return a client without a login."""
    with local_client(stack.facts["GRAFANA_URL"], timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture(scope="module")
def with_password(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """Return a client of a separate Grafana, started like the native one: with a password,
    published, and behind a reverse proxy under a path."""
    changed = {
        "GRAFANA_ADMIN_PASSWORD": _PASSWORD,
        # It still listens on loopback.
        "PUBLISH_HOST": "0.0.0.0",  # noqa: S104
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
    }
    facts = {"GRAFANA_PORT": _PORT, "GRAFANA_PUBLIC_URL": _PUBLIC_URL}
    directory = tmp_path_factory.mktemp("grafana")
    with (
        grafana_alone(directory, facts, changed) as url,
        local_client(url, timeout=PATIENCE_SECONDS) as client,
    ):
        yield client


def test_it_is_healthy_in_the_pinned_version(visitor: httpx2.Client) -> None:
    health = visitor.get("/api/health").raise_for_status().json()
    assert health["database"] == "ok"
    assert health["version"].partition("+")[0] == grafana.VERSION


def test_each_backend_has_its_datasource_uid(visitor: httpx2.Client) -> None:
    settings = visitor.get("/api/frontend/settings").raise_for_status().json()
    found = {source.get("uid"): source["type"] for source in settings["datasources"].values()}
    assert {uid: found.get(uid) for uid in _UIDS} == {uid: uid for uid in _UIDS}
    assert settings["defaultDatasource"] == "Prometheus"


@pytest.mark.parametrize("uid", ["prometheus", "loki", "tempo"])
def test_backend_answers_the_query(visitor: httpx2.Client, uid: str) -> None:
    answer = visitor.get(f"/api/datasources/uid/{uid}/health")
    assert answer.json()["status"] == "OK", answer.text


def test_alertmanager_answers_it(visitor: httpx2.Client) -> None:
    # Its plugin has no health check.
    answer = visitor.get("/api/datasources/proxy/uid/alertmanager/api/v2/status")
    assert answer.raise_for_status().json()["cluster"]["status"] == "disabled"


def test_anonymous_viewer_can_query_the_backends(visitor: httpx2.Client) -> None:
    may = visitor.get("/api/access-control/user/actions").raise_for_status().json()
    assert may["datasources:explore"]
    query = {"refId": "A", "datasource": {"uid": "prometheus"}, "expr": "vector(7)"}
    asked = {"queries": [query], "from": "now-1m", "to": "now"}
    answer = visitor.post("/api/ds/query", json=asked).raise_for_status().json()
    assert answer["results"]["A"]["frames"][0]["data"]["values"][1][-1] == 7


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/dashboards/db", {"dashboard": {"title": "mine"}}),
        ("/api/folders", {"title": "mine"}),
        ("/api/datasources", {"name": "mine", "type": "loki", "access": "proxy"}),
        ("/api/admin/users", {"name": "me", "login": "me", "password": "mine"}),
        ("/api/datasources/proxy/uid/alertmanager/api/v2/silences", {}),
    ],
)
def test_visitor_cannot_write(visitor: httpx2.Client, path: str, body: object) -> None:
    assert visitor.post(path, json=body).status_code in (401, 403)


@pytest.mark.parametrize("path", ["/api/admin/settings", "/api/users", "/api/org/users"])
def test_visitor_sees_nothing_that_is_for_administrators(visitor: httpx2.Client, path: str) -> None:
    assert visitor.get(path).status_code in (401, 403)


def test_well_known_password_opens_nothing(visitor: httpx2.Client) -> None:
    answer = visitor.post("/login", json={"user": "admin", "password": "admin"})
    assert answer.status_code == 401


def test_it_has_nothing_to_complain_about(log: str) -> None:
    errors = [line for line in log.splitlines() if "level=error" in line]
    # Log lines about a request concern its content, or that the client disconnected.
    own = [line for line in errors if "uname=" not in line and "context canceled" not in line]
    assert own == []


def test_password_from_the_environment_makes_an_administrator(
    with_password: httpx2.Client,
) -> None:
    answer = with_password.get("/api/admin/settings", auth=("admin", _PASSWORD))
    assert answer.status_code == 200
    assert with_password.get("/api/org", auth=("admin", "admin")).status_code == 401


def test_published_it_shows_nothing_without_a_login(with_password: httpx2.Client) -> None:
    assert with_password.get("/api/org").status_code == 401
    assert with_password.get("/api/org", auth=("admin", _PASSWORD)).status_code == 200


def test_it_is_served_under_the_path_of_its_public_address(with_password: httpx2.Client) -> None:
    settings = with_password.get("/grafana/api/frontend/settings", auth=("admin", _PASSWORD))
    found = settings.raise_for_status().json()
    assert (found["appUrl"], found["appSubUrl"]) == (f"{_PUBLIC_URL}/", "/grafana")
    page = with_password.get("/grafana/login").raise_for_status().text
    assert '"/grafana/' in page
    moved = with_password.get("/d/home")
    assert moved.headers["location"] == f"{_PUBLIC_URL}/d/home"


def test_settings_are_those_of_our_file(with_password: httpx2.Client) -> None:
    answer = with_password.get("/api/admin/settings", auth=("admin", _PASSWORD))
    settings = answer.raise_for_status().json()
    assert settings["server"]["http_port"] == _PORT
    assert settings["plugins"]["preinstall_disabled"] == "true"
    assert Path(settings["paths"]["provisioning"]).name == "grafana-provisioning"
