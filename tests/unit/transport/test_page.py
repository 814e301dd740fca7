"""The chat page as it is served: nothing from elsewhere, small, kept by the browser."""

import gzip
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.transport import page
from dashboards import datasources, links
from dashboards.variables import CONVERSATION
from tests.memory import Memory
from tests.unit.serving import quick

_STATIC = Path(page.__file__).with_name("static")
_VENDOR = _STATIC / "vendor"
# What a first visit may transfer.
_MOST_BYTES = 80_000


def _client(memory: Memory, **settings: Any) -> TestClient:
    return TestClient(create_app(quick(**settings), providers=memory.providers))


@pytest.fixture
def client(memory: Memory) -> TestClient:
    return _client(memory)


def _addresses(client: TestClient) -> list[str]:
    """All files that the page names, which are all that there are."""
    found = re.findall(r'(?:src|href)="(page/[^"]+)"', client.get("/").text)
    there = [path.name for end in ("css", "js", "svg") for path in _STATIC.rglob(f"*.{end}")]
    assert sorted(address.rpartition("/")[2] for address in found) == sorted(there)
    return found


def test_page_is_small(client: TestClient) -> None:
    total = 0
    for address in ["", *_addresses(client)]:
        with client.stream("GET", f"/{address}", headers={"accept-encoding": "gzip"}) as response:
            assert response.headers["content-encoding"] == "gzip"
            sent = b"".join(response.iter_raw())
        assert client.get(f"/{address}", headers={"accept-encoding": "identity"}).content == (
            gzip.decompress(sent)
        )
        total += len(sent)
    assert total <= _MOST_BYTES, f"{total} bytes"


def test_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    for path in (_STATIC / "index.html", *_STATIC.glob("*.css"), *_STATIC.glob("*.js")):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")  # a name
        assert re.findall(r"""["'(`]\s*(?:https?:)?//\w|@import|url\(""", text) == [], path
    text = client.get("/").text
    assert re.findall(r"""(?:src|href)="(?!page/)""", text) == []
    assert (
        re.findall(r'<script(?! (?:defer|type="module") src=)|<style|\son\w+=|style=', text) == []
    )


def test_policy_allows_only_the_pages_own_files(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    directives = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    assert directives["default-src"] == directives["base-uri"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == "'self'"
    assert directives["connect-src"] == directives["img-src"] == "'self'"
    assert directives["frame-ancestors"] == directives["form-action"] == "'none'"
    assert directives["require-trusted-types-for"] == "'script'"
    assert directives["trusted-types"] == "dompurify"
    assert "unsafe" not in policy


def test_files_are_kept_until_one_changes(client: TestClient) -> None:
    assert client.get("/").headers["cache-control"] == "no-cache"
    for address in _addresses(client):
        response = client.get(f"/{address}")
        assert "immutable" in response.headers["cache-control"]
        # Another version of the page, during an update.
        other = client.get(f"/page/0/{address.rpartition('/')[2]}")
        assert other.headers["cache-control"] == "no-store"
        assert other.content == response.content


@pytest.mark.parametrize("name", ["x.js", "index.html", "..%2Fpage.py", "LICENSES.txt"])
def test_other_files_are_not_served(client: TestClient, name: str) -> None:
    response = client.get(f"/page/0/{name}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def _facts(client: TestClient) -> Any:
    [content] = re.findall('<meta name="chatscope" content="(.*)">', client.get("/").text)
    return json.loads(html.unescape(content))


def test_page_knows_its_service_and_grafana(memory: Memory) -> None:
    hostile = 'https://g.example/"><script>'
    client = _client(memory, grafana_public_url=hostile, otel_service_name="<b>'\"")
    assert _facts(client) == {"grafana": hostile, "service": "<b>'\""}
    assert "<script>" not in client.get("/").text
    assert _facts(_client(memory))["grafana"] is None


def test_links_name_what_grafana_has() -> None:
    text = (_STATIC / "grafana.js").read_text()
    assert f"{links.path(links.CONVERSATIONS)}?var-{CONVERSATION.name}=" in text
    assert set(re.findall(r'#explore\("(\w+)"', text)) == {
        datasources.TEMPO.uid,
        datasources.LOKI.uid,
    }


def test_libraries_are_those_of_their_packages() -> None:
    readme = (_VENDOR / "README.md").read_text()
    listed = dict(re.findall(r"^\| `([^`]+)` .* `([0-9a-f]{64})` \|$", readme, re.MULTILINE))
    assert listed == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in _VENDOR.glob("*.js")
    }
    licences = (_VENDOR / "LICENSES.txt").read_text()
    for package, version in re.findall(r"\| (\S+) (\d+\.\d+\.\d+) \|", readme):
        assert f"==== {package} {version}" in licences.lower()
