"""Credentials in what a provider says."""

import pytest

from app.chat.secrets import redactor


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Incorrect API key provided: sk-1234.", "Incorrect API key provided: ***."),
        ("user:hunter2 pass user:hunter2%20pass", "user:*** user:***"),
        ("Basic dXNlcjpodW50ZXIyIHBhc3M=", "Basic ***"),
        ("sk-123", "sk-123"),
        ("", ""),
    ],
)
def test_key_and_credentials_of_the_url_are_masked(text: str, expected: str) -> None:
    redact = redactor("sk-1234", "http://user:hunter2%20pass@host/v1")
    assert redact(text) == expected


@pytest.mark.parametrize("key", [None, "", "abc"])
def test_without_a_secret_no_word_changes(key: str | None) -> None:
    assert redactor(key, "http://host/v1")("abc: none of it") == "abc: none of it"


def test_a_secret_inside_another_leaves_nothing_of_it() -> None:
    assert redactor("secret", "http://u:secretpass@host")("secretpass secret") == "*** ***"
