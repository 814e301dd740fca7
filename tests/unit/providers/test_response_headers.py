"""Headers of a provider's response: those that clients may use, and can be sent."""

import pytest

from app.providers.response_headers import passed_on


def test_names_are_sent_in_lower_case() -> None:
    given = {"X-Request-Id": "a", "X-RateLimit-Limit-Requests": "5", "Server": "x"}
    assert passed_on(given) == {"x-request-id": "a", "x-ratelimit-limit-requests": "5"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-ratelimit-\u00e9", "5"),
        ("x-ratelimit-", "5"),
        ("x-ratelimit-a b", "5"),
        ("x-ratelimit-" + "a" * 300, "5"),
        ("x-request-id", "a\r\nb"),
        ("x-request-id", "\u00e9"),
    ],
)
def test_header_that_cannot_be_sent_is_left_out(name: str, value: str) -> None:
    assert passed_on({name: value}) == {}
