"""The local database: which versions an advisory affects, and the API that is served."""

import json
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
import yaml

from audit import osv
from tests.unit.audit.advisories import advisory, write

_FIXED = ({"introduced": "0"}, {"fixed": "2.0.1"})
_TWICE = ({"introduced": "1.0"}, {"fixed": "1.5"}, {"introduced": "2.0"}, {"last_affected": "2.3"})


def _database(tmp_path: Path, *events: dict[str, str]) -> osv.Database:
    return osv.read(write(tmp_path / "db", advisory("TEST-1", "PyPI", "Some.Package", *events)))


@pytest.mark.parametrize(
    ("events", "version", "affected"),
    [
        (_FIXED, "2.0.1rc1", True),
        (_FIXED, "0.1.dev1", True),
        (_FIXED, "2.0.1", False),
        (_FIXED, "10", False),
        (_TWICE, "0.9", False),
        (_TWICE, "1.0", True),
        (_TWICE, "1.5", False),
        (_TWICE, "2.3", True),
        (_TWICE, "2.4", False),
        (({"introduced": "0"},), "99", True),
    ],
)
def test_version_is_affected_as_the_events_say(
    tmp_path: Path, events: tuple[dict[str, str], ...], version: str, affected: bool
) -> None:
    found = _database(tmp_path, *events).query("some-package", version)
    assert [each["id"] for each in found] == (["TEST-1"] if affected else [])


def test_listed_version_is_affected_without_a_range(tmp_path: Path) -> None:
    entry = advisory("TEST-1", "PyPI", "thing")
    entry["affected"][0] |= {"versions": ["1.0.0", "not a version"], "ranges": []}
    database = osv.read(write(tmp_path, entry))
    assert database.query("thing", "1.0")
    assert not database.query("thing", "1.1")


def test_archive_and_yaml_are_read_as_well(tmp_path: Path) -> None:
    entry = advisory("TEST-1", "PyPI", "thing", *_FIXED)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("TEST-1.json", json.dumps(entry))
    (tmp_path / "vulns").mkdir()
    (tmp_path / "vulns" / "TEST-1.yaml").write_text(yaml.safe_dump(entry))
    for place in (tmp_path / "all.zip", tmp_path / "vulns"):
        assert [each["id"] for each in osv.read(place).query("thing", "1")] == ["TEST-1"]


@pytest.mark.parametrize("content", [None, "{", '{"id": "TEST-1"}'])
def test_unreadable_or_empty_database_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "db").mkdir()
        (tmp_path / "db" / "x.json").write_text(content)
    with pytest.raises(osv.DatabaseError):
        osv.read(tmp_path / "db")


def test_advisories_of_other_ecosystems_are_none_for_python(tmp_path: Path) -> None:
    write(tmp_path, advisory("TEST-1", "Go", "thing", *_FIXED))
    with pytest.raises(osv.DatabaseError, match="no advisory for Python"):
        osv.read(tmp_path)


def _ask(url: str, body: bytes) -> tuple[int, object]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, body, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_served_database_responds_as_the_api(tmp_path: Path) -> None:
    asked = {"package": {"name": "some-package", "ecosystem": "PyPI"}, "version": "1"}
    with osv.served(_database(tmp_path, *_FIXED)) as url:
        status, found = _ask(url, json.dumps(asked).encode())
        assert status == 200
        assert [each["id"] for each in found["vulns"]] == ["TEST-1"]  # type: ignore[index]
        assert _ask(url, json.dumps(asked | {"version": "3"}).encode()) == (200, {})
        for wrong in (b"{", b"[]", json.dumps(asked | {"version": "x y"}).encode()):
            assert _ask(url, wrong)[0] == 400
