"""KEYS_FILE, the command that creates its entries, and the search for a key."""

import hashlib
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from app.config_file import ConfigFileError
from app.keys.file import Key, KeysFile
from app.keys.keyring import Keyring, digest_of, new_key
from app.settings import SettingsError, load_settings
from tests.unit.process import ROOT

_DIGEST = digest_of("secret").hex()


def _entry(name: str, digest: str = _DIGEST, more: str = "") -> str:
    return f'[[keys]]\nname = "{name}"\nsha256 = "{digest}"\n{more}\n'


def _problems(directory: Path, text: str) -> list[str]:
    path = directory / "keys.toml"
    path.write_text(text)
    with pytest.raises(ConfigFileError) as caught:
        KeysFile.read(path)
    return caught.value.problems


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (
            "limits = { usd_per_day = 0 }",
            "limits.usd_per_day = 0 is not accepted: give a number of",
        ),
        ("limits = { usd_per_day = inf }", "limits.usd_per_day = inf is not accepted"),
        ("limits = { tokens_per_day = 1.5 }", "limits.tokens_per_day = 1.5 is not accepted: give"),
        ("user_limits = { eur_per_day = 1 }", "user_limits.eur_per_day is unknown; known: usd_per"),
        ('scopes = ["admin"]', "scopes[0] = 'admin' is not accepted: give a list of \"inference\""),
        ("scopes = []", 'scopes = [] is not accepted: give a list of "inference" and "models"'),
        ('team = "a b"', "team = 'a b' is not accepted: give a name of 1 to 128 letters"),
        ('key = "planted"', "key is unknown; known: name, sha256, scopes, team, limits, user_lim"),
    ],
)
def test_invalid_field_is_reported_with_what_is_accepted(
    tmp_path: Path, more: str, problem: str
) -> None:
    (found,) = _problems(tmp_path, _entry("a", more=more))
    assert found.startswith("keys[0] (a)")
    assert problem in found
    assert "planted" not in found


def test_key_in_place_of_its_hash_is_reported_and_not_shown(tmp_path: Path) -> None:
    key = new_key()
    (found,) = _problems(tmp_path, _entry("a", key))
    assert "sha256 = *** is not accepted: give the SHA-256 of the key" in found
    assert key not in found


def test_names_and_keys_are_each_in_the_file_once(tmp_path: Path) -> None:
    other = digest_of("other").hex()
    found = _problems(tmp_path, _entry("a") + _entry("a", other) + _entry("b"))
    assert found == [
        "key 'a' exists twice: give each key a name of its own",
        "keys 'a', 'b' have the same sha256: create a key for each",
    ]


def test_limits_of_several_workers_need_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(_entry("a", more="limits = { tokens_per_day = 1 }"))
    environ = {"KEYS_FILE": str(path), "WORKERS": "2"}
    with pytest.raises(SettingsError, match="share them in BUDGETS_FILE or SHARED_STORE_URL"):
        load_settings(environ)
    load_settings({**environ, "BUDGETS_FILE": str(tmp_path / "budgets.sqlite")})
    load_settings({**environ, "SHARED_STORE_URL": "redis://localhost"})
    path.write_text(_entry("a"))
    load_settings(environ)


def test_file_of_the_budgets_can_be_created(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path, "is not a file"),
        (Path("/proc/budgets/x"), "No such file or directory"),
    ):
        with pytest.raises(SettingsError) as caught:
            load_settings({"BUDGETS_FILE": str(path)})
        assert reason in caught.value.problems[0]


def _new(name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.keys", "new", name]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )


def test_command_creates_an_entry_that_can_be_appended_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    created = [_new(name) for name in ("alice", "bob")]
    path.write_text("".join(each.stdout for each in created))
    keyring = Keyring(KeysFile.read(path).keys)
    for name, each in zip(("alice", "bob"), created, strict=True):
        key = each.stderr.splitlines()[-1]
        assert key not in each.stdout
        found = keyring.find(key)
        assert found is not None
        assert found.name == name


def test_command_refuses_a_name_that_the_file_would_not_accept() -> None:
    refused = _new('a"b')
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "give a name of 1 to 128 letters" in refused.stderr


def test_hash_is_the_sha256_of_the_key() -> None:
    assert digest_of("secret") == hashlib.sha256(b"secret").digest()
    assert len(new_key()) > 40
    assert new_key() != new_key()


def _keyring(*texts: str) -> Keyring:
    return Keyring([Key(name=text, sha256=digest_of(text).hex()) for text in texts])


@pytest.mark.parametrize("presented", ["", "secre", "secret ", "SECRET", "sécret", "\udcff"])
def test_only_the_exact_key_is_found(presented: str) -> None:
    keyring = _keyring("other", "secret")
    assert keyring.find(presented) is None
    found = keyring.find("secret")
    assert found is not None
    assert found.name == "secret"


def test_keys_can_be_replaced_while_they_are_used() -> None:
    keyring = _keyring("old")
    keyring.replace(_keyring("new").keys)
    assert keyring.find("old") is None
    assert keyring.find("new") is not None


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a search must not show which key, or how much of it, is right."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return first == second

    monkeypatch.setattr("hmac.compare_digest", compare)
    keyring = _keyring("a", "b", "c")
    for presented in ("a", "c", "x"):
        compared.clear()
        keyring.find(presented)
        assert compared == [(digest_of(each), digest_of(presented)) for each in "abc"]


def test_search_among_a_thousand_keys_takes_less_than_ten_milliseconds() -> None:
    keyring = _keyring(*(f"key-{number}" for number in range(1000)))
    best = min(_seconds(keyring) for _ in range(5))
    assert best < 0.01


def _seconds(keyring: Keyring) -> float:
    started = time.perf_counter()
    keyring.find("unknown")
    return time.perf_counter() - started


def test_entry_is_toml_that_keeps_the_entries_before_it() -> None:
    text = _entry("a") + _new("b").stdout
    assert [entry["name"] for entry in tomllib.loads(text)["keys"]] == ["a", "b"]
