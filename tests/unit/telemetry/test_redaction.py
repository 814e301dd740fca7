"""Secrets and personal data in texts: found in each form, and not in ordinary text."""

import base64
import importlib
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatscope import SettingsError, redact
from chatscope.redaction import KINDS, Redactor, credentials_in, pseudonym, secret_values
from chatscope.redaction.rules import RULES, is_card
from chatscope.settings import TelemetrySettings, load_settings

_ALL = Redactor()
# Shapes that scanners of repositories look for are put together here.
_SK = "sk-" + "proj-AbCdEf0123456789AbCd"
_JWT = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0" + ".abcDEF123_-xyz"
_PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIE+/ab\n-----END RSA "
_BASIC = base64.b64encode(b"user:hunter2").decode()

_FOUND = [
    (f"key {_SK}, end", "key <redacted api key>, end"),
    ("sk-ant-" + "api03-0123456789abcdef", "<redacted api key>"),
    ("cs-" + "Ab1_" * 10 + "xyz", "<redacted api key>"),
    ("sk_live_" + "0123456789abcdef", "<redacted api key>"),
    ("(AKIA" + "IOSFODNN7EXAMPLE)", "(<redacted aws key>)"),
    ("ghp_" + "a1B2" * 9, "<redacted github token>"),
    ("github_pat_" + "a1B2_" * 9, "<redacted github token>"),
    ("glpat-" + "a1B2_" * 4, "<redacted gitlab token>"),
    ("?key=AIza" + "Sy1" * 11 + "ab", "?key=<redacted google key>"),
    ("ya29." + "aB1z-_" * 4, "<redacted google token>"),
    ("xoxb-" + "123456789012-abcdef", "<redacted slack token>"),
    (
        "https://hooks.slack.com/" + "services/T0/B0/abcdefghijkl",
        "https://<redacted slack webhook>",
    ),
    ("hf_" + "aB1" * 11, "<redacted hugging face token>"),
    ("npm_" + "aB1" * 12, "<redacted npm token>"),
    ("pypi-" + "aB1_-" * 11, "<redacted pypi token>"),
    ("gsk_" + "aB1" * 14, "<redacted api key>"),
    ("glsa_" + "aB1z" * 8 + "_0123abcd", "<redacted grafana token>"),
    ("SG." + "aB1z-_" * 3 + "abcd." + "aB1z-_" * 7 + "a", "<redacted sendgrid key>"),
    (f"token {_JWT}", "token <redacted jwt>"),
    (f"a {_PEM}PRIVATE KEY----- b", "a <redacted private key> b"),
    (f"cut: {_PEM[:50]}", "cut: <redacted private key>"),
    ("Authorization: Bearer abc123DEF456", "Authorization: Bearer <redacted token>"),
    ("authorization%3A+bearer%20abc123DEF456", "authorization%3A+bearer%20<redacted token>"),
    (f"Basic {_BASIC}", "Basic <redacted password>"),
    ("(b'x-api-key', b'abcdef123456')", "(b'x-api-key', b'<redacted credential>')"),
    ('{"Authorization": "abcdef123456"}', '{"Authorization": "<redacted credential>"}'),
    ("Cookie: session=abcdef; a=b", "Cookie: <redacted cookie>"),
    ("postgres://me:p%40ss@db:5432/x", "postgres://me:<redacted password>@db:5432/x"),
    ("redis://:secret@h", "redis://:<redacted password>@h"),
    ("redis://u[:se[cr]et@h", "redis://u[:<redacted password>@h"),
    ("x-api-key: AbCdEfGhIjKlMnOp", "x-api-key: <redacted credential>"),
    ("GET /x?api_key=abc123&b=1", "GET /x?api_key=<redacted secret>&b=1"),
    ('{"password": "hunter2"}', '{"password": "<redacted secret>"}'),
    ("DB_PASSWORD=hunter2", "DB_PASSWORD=<redacted secret>"),
    ("db:secret:hunter2", "db:secret:<redacted secret>"),
    ("DB_PASSWORD=hunter2(x", "DB_PASSWORD=<redacted secret>(x"),
    ("to jane.o'neil+x@example.co.uk, ok", "to <redacted e-mail>, ok"),
    ("/users/jane%40example.com/", "/users/<redacted e-mail>/"),
    ("jörg@example.de", "<redacted e-mail>"),
    ("card 4111 1111 1111 1111.", "card <redacted card number>."),
    ("5555-5555-5555-4444", "<redacted card number>"),
    ("3782 822463 10005, 378282246310005", "<redacted card number>, <redacted card number>"),
    ("call +49 170 1234567 now", "call <redacted phone number> now"),
    ("+1.415.555.2671", "<redacted phone number>"),
    ("(415) 555-2671 or 415-555-2671", "<redacted phone number> or <redacted phone number>"),
    ("Phone: 0170 1234567", "Phone: <redacted phone number>"),
]


@pytest.mark.parametrize(("text", "shown"), _FOUND)
def test_secret_is_replaced(text: str, shown: str) -> None:
    assert _ALL.text(text) == shown


@pytest.mark.parametrize(("text", "shown"), _FOUND)
def test_redacted_text_is_not_changed_again(text: str, shown: str) -> None:
    assert _ALL.text(shown) == shown


def test_each_rule_finds_something() -> None:
    marks = {rule.mark for rule in RULES}
    assert marks == {mark for mark in marks if any(mark in shown for _, shown in _FOUND)}


@pytest.mark.parametrize(
    "text",
    [
        "task-0123456789abcdef0123456789abcdef",
        "sk-learn-and-other-packages-of-science",
        "basic understanding, Basic Options, bearer authentication",
        '("authorization", "x-amz-content-sha256", "x-amz-date")',
        "password: must be long; password=None; token=token, api_key=self._api_key",
        "Authorization: required; authorization = authorization[1].encode(",
        "authorization: Optional[str] = None; object_level_authorization: SimpleCheckConfig",
        "CopySourceAuthorization: o.CopySourceAuthorization; Bearer authToken",
        "arn:aws:secretsmanager:us-east-1:012345678901:secret:shop/db-A1B2C3",
        "Started user@1000.service, getty@tty1.service; po/en@quot.header",
        "a-very-long-sk-that-exceeds-the-maximum-length-of-1024-bit",
        "decoded_secret = base64.b64decode(secret[6:])",
        "redis://[:password]@host:port, http://[user:passwd@]proxy, http://[::1]:8080",
        "max_tokens=4096 total_tokens: 12345678",
        "parse_cookie(cookie=cookie, cls=cls)",
        "git@github.com:org/repo.git",
        "@app.get('/x') user@localhost '@mock.patch()'",
        "+0200 UTC+01:00 1.0.0+20130313144700 +1.12345679",
        "Thu Feb 04 21:00:57 +1130 2010, +1980-02-29 01:02:03, {+100000000}",
        "2026-11-29T03:15:43.123456789Z 1795921971123456789 1795921971123456",
        "192.168.100.200:4317 [2001:db8::1]:443",
        "4111111111111112 4012888888881882",
        "http://127.0.0.1:3000/v1/chat/completions?x=a@b",
        "Bearer <token>, ${API_KEY}, sk-…",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert _ALL.text(text) == text


def _identifiers(count: int) -> Iterator[str]:
    # The same numbers each time.
    numbers = random.Random(1)  # noqa: S311
    for _ in range(count):
        bits = numbers.getrandbits
        yield f"{bits(128):032x}"
        yield f"00-{bits(128):032x}-{bits(64):016x}-01"
        yield str(uuid.UUID(int=bits(128), version=4))
        yield f"chatcmpl-{bits(116):029x}"
        yield f"resp_{bits(192):048x}"
        yield f"req_{bits(80)}"
        yield str(1_795_921_971_000_000_000 + bits(50))
        yield f"2026-11-{1 + bits(4):02}T03:{bits(5):02}:43.{bits(19):06}+00:00"
        yield str(bits(63))
        yield repr(numbers.random() * 10 ** numbers.randrange(-20, 20))
        yield f"v{bits(4)}.{bits(5)}.{bits(6)}+{bits(30):x} sha256:{bits(256):064x}"


def test_identifiers_numbers_and_times_stay() -> None:
    changed = [text for text in _identifiers(3_000) if _ALL.text(text) != text]
    # Of 33,000: one of ten random numbers with a card's length and first digits has its checksum.
    assert len(changed) <= 2, changed


def test_documentation_of_python_has_nothing_but_mail_addresses() -> None:
    topics = importlib.import_module("pydoc_data.topics").topics
    without_mail = Redactor([kind for kind in KINDS if kind != "emails"])
    lines = [line for text in topics.values() for line in text.splitlines()]
    lines += Path(random.__file__).read_text("utf-8").splitlines()
    assert len(lines) > 10_000
    assert [line for line in lines if without_mail.text(line) != line] == []


def test_card_number_needs_issuer_length_and_checksum() -> None:
    assert is_card("4111111111111111")
    assert is_card("6011000990139424")
    assert not is_card("4111111111111112")
    assert not is_card("411111111111111")
    assert not is_card("9111111111111119")
    assert not is_card("0000000000000000")


def test_kinds_are_switched_off_alone() -> None:
    text = f"{_SK} a@example.com 4111111111111111 +49 170 1234567"
    for kind in KINDS:
        shown = Redactor([kind]).text(text)
        assert shown.count("<redacted") == 1, shown
    assert Redactor([]).text(text) == text


def test_configured_values_are_replaced_in_each_form() -> None:
    redactor = Redactor([], values=["p@ss wörd", "p@ss", "ab"])
    assert redactor.text("x p@ss wörd y") == "x <redacted secret> y"
    assert (
        redactor.text("?p=p%40ss%20w%C3%B6rd&q=p@ss") == "?p=<redacted secret>&q=<redacted secret>"
    )
    assert redactor.text("cabbage") == "cabbage"


def test_further_patterns_are_replaced() -> None:
    redactor = Redactor([], patterns={"employee": r"\bE-\d{6}\b"})
    assert redactor.text("by E-123456.") == "by <redacted employee>."


def test_user_id_keeps_what_the_application_chose() -> None:
    assert _ALL.attribute("user.id", "jane@example.com") == ("jane@example.com", True)
    assert _ALL.attribute("user.id", f"x {_SK}") == ("x <redacted api key>", True)
    shown, _ = Redactor(user_id_key="k" * 16).attribute("user.id", "jane@example.com")
    assert shown == pseudonym("jane@example.com", "k" * 16)
    assert shown != pseudonym("jane@example.com", "l" * 16)
    assert len(shown) == 32


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("authorization", True),
        ("http.request.header.authorization", True),
        ("X-Api-Key", True),
        ("db_password", True),
        ("headers.cookie", True),
        ("access_token", True),
        ("gen_ai.usage.input_tokens", False),
        ("gen_ai.token.type", False),
        ("password_policy", False),
        ("secretary", False),
    ],
)
def test_attribute_named_as_a_secret_is_hidden(name: str, secret: bool) -> None:
    assert (_ALL.attribute(name, "any words")[0] == "<redacted value>") is secret
    assert _ALL.attribute(name, 12) == (12, False)


def test_values_of_secret_variables_are_known() -> None:
    found = secret_values(
        {
            "SHOP_API_KEY": "abc123defg",
            "DATABASE_URL": "postgres://u:p%40ss1word@db/x",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abcd1234XY,x=1",
            "DB_PASSWORD": "postgres",  # a word
            "TLS_KEY": "/etc/tls/key1.pem",  # a path
            "HOME": "/home/jane123",
        }
    )
    basic = next(credentials_in("http://u:p%40ss1word@db"), "")
    assert found >= {"abc123defg", "abcd1234XY", "p@ss1word", basic}
    assert not found & {"postgres", "/etc/tls/key1.pem", "/home/jane123", "1"}


def test_settings_name_invalid_kinds_and_patterns() -> None:
    assert load_settings({"CHATSCOPE_REDACT": "Secrets, cards"}).redact == {"secrets", "cards"}
    assert load_settings({"CHATSCOPE_REDACT": "none"}).redact == frozenset()
    assert load_settings({}).redact == set(KINDS)
    with pytest.raises(SettingsError, match=r"CHATSCOPE_REDACT must be .* or none \(got 'words'\)"):
        load_settings({"CHATSCOPE_REDACT": "words"})
    with pytest.raises(SettingsError, match="redact_patterns must be regular expressions"):
        load_settings({}, redact_patterns={"x": "("})
    with pytest.raises(SettingsError, match="does not match an empty text"):
        load_settings({}, redact_patterns={"x": "a*"})
    with pytest.raises(SettingsError) as raised:
        load_settings({"CHATSCOPE_USER_ID_KEY": "short-key"})
    assert "short-key" not in str(raised.value)


def test_settings_do_not_print_secrets() -> None:
    settings = TelemetrySettings(redact_values=frozenset({"abc123"}), user_id_key="k" * 16)
    assert "abc123" not in repr(settings)
    assert "kkkk" not in repr(settings)


@pytest.mark.parametrize(
    "text",
    [
        "-eyJabcdefgh" * 20_000,
        "a@" * 120_000,
        "a." * 120_000 + "@",
        "x-" * 120_000 + "authorization",
        "://:" * 60_000 + "@",
        "-----BEGIN PRIVATE KEY-----" * 9_000,
        "+0" * 120_000,
        "password=" * 25_000,
        "4111 1111 1111 " * 16_000,
        "bearer " * 35_000,
        "cookie:a" * 30_000,
    ],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    def seconds(length: int) -> float:
        started = time.process_time()
        _ALL.text(text[:length])
        return time.process_time() - started

    seconds(1_000)
    whole, part = seconds(240_000), max(seconds(24_000), 0.0005)
    # Quadratic time would be a hundred times as long.
    assert whole / part < 50, (whole, part)


def test_redact_is_public() -> None:
    assert redact(f"key {_SK}") == "key <redacted api key>"
