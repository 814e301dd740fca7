"""Credentials in what a provider says."""

import pytest

from app.providers.secrets import redactor


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
    said = "abc: none of it, nor Og=="  # the last is ":" in Base64
    assert redactor(key, "http://host/v1")(said) == said


def test_key_of_four_characters_is_masked() -> None:
    assert redactor("abcd", "http://host/v1")("key abcd") == "key ***"


@pytest.mark.parametrize(
    ("url", "encoded"), [("http://user@host", "dXNlcjo="), ("http://:pass@host", "OnBhc3M=")]
)
def test_incomplete_credentials_are_masked_as_they_are_sent(url: str, encoded: str) -> None:
    assert redactor(None, url)(f"Basic {encoded}") == "Basic ***"


@pytest.mark.parametrize("inner", ["zebra", "a-ze"])
def test_a_secret_inside_another_leaves_nothing_of_it(inner: str) -> None:
    assert redactor(inner, "http://u:a-zebra@host")(f"a-zebra {inner}") == "*** ***"
