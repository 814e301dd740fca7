"""Secrets and personal data in texts: the shapes of tokens, addresses and numbers.

Patterns are in the common syntax of Python and RE2, because the Collector applies the same ones
(`stack/redacting.py`). `§` stands for the beginning of a word. A pattern that finds more than
it should has a `check`, which the Collector lacks: there, `strict` takes the pattern's place.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

SECRETS: Final = "secrets"
EMAILS: Final = "emails"
CARDS: Final = "cards"
PHONES: Final = "phones"
KINDS: Final = (SECRETS, EMAILS, CARDS, PHONES)
# The attribute that is what the application calls the identity of a person: only secrets are
# replaced in it. Here and not in names.py, which needs OpenTelemetry's API.
USER_ID: Final = "user.id"

# Python's \b would also be right; this one is not slower, and ends at letters of any language.
_BEGIN: Final = "§"
_PYTHON_BEGIN: Final = r"(?<![^\W_])"

# Code: a name such as HTTPBasicAuth or authToken, and one of a module or an object.
_NAME: Final = re.compile(r"[a-z]*(?:[A-Z]{1,5}[a-z]{2,})*")
_DOTTED: Final = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")
_HEADER: Final = re.compile(r"x-[a-z0-9]+(?:-[a-z0-9]+)+")
# Of a token that has no capital letters.
_LONG_PART: Final = 16
# Characters between "arn:" and the kind of a resource.
_LONGEST_ARN: Final = 80
# Ends of units of systemd, such as user@1000.service, and of files of a language.
_NO_DOMAINS: Final = (
    *(".service", ".timer", ".socket", ".target", ".mount", ".slice", ".scope", ".device"),
    *(".path", ".po", ".header"),
)

Check = Callable[["re.Match[str]"], bool]


@dataclass(frozen=True)
class Rule:
    """Something to be replaced by `<redacted NAME>`.

    `needles` are parts, one of which each match contains: in lower case, with `0` for each digit.
    A text without any of them is not searched, nor one without any of the characters in `gate`,
    of which each match has one. With groups in the pattern, the first and the last
    one are kept, and what is between them is replaced.
    """

    kind: str
    name: str
    pattern: str
    needles: tuple[str, ...]
    check: Check | None = None
    gate: str = ""
    # For the Collector; None: the pattern itself, empty: nothing.
    strict: str | None = None

    @property
    def mark(self) -> str:
        """The text that is put in its place."""
        return f"<redacted {self.name}>"

    def compiled(self) -> "re.Pattern[str]":
        """Return the pattern for Python."""
        return re.compile(self.pattern.replace(_BEGIN, _PYTHON_BEGIN))

    def re2(self) -> str:
        """Return the pattern in RE2's syntax; empty if there is none."""
        pattern = self.pattern if self.strict is None else self.strict
        return pattern.replace(_BEGIN, r"\b")

    @property
    def groups(self) -> int:
        """The number of groups of that pattern."""
        return re.compile(self.re2()).groups


def invalid_patterns(patterns: object) -> list[str]:
    """Return a sentence for each pattern of an application that cannot be used."""
    accepts = "redact_patterns must be regular expressions by name"
    if not isinstance(patterns, Mapping):
        return [f"{accepts} (got {patterns!r})"]
    problems = []
    for name, pattern in patterns.items():
        try:
            matches_nothing = re.compile(pattern).search("") is not None
        except (re.error, TypeError) as error:
            problems.append(f"{accepts} (got {name!r}: {pattern!r}, {error})")
        else:
            if matches_nothing or not re.fullmatch(r"[\w -]{1,40}", str(name)):
                problems.append(
                    f"{accepts}: a name of at most 40 letters, digits and blanks, and a pattern"
                    f" that does not match an empty text (got {name!r}: {pattern!r})"
                )
    return problems


def is_masked(text: str) -> bool:
    """Whether a text is nothing but asterisks, instead of a secret."""
    return set(text) == {"*"}


def is_random(text: str) -> bool:
    """Whether a text is random rather than words: it has digits and letters, or both cases."""
    digit = any(map(str.isdigit, text))
    letter = any(map(str.isalpha, text))
    return letter and (digit or not (text.islower() or text.isupper() or text.istitle()))


def _is_address(match: "re.Match[str]") -> bool:
    """Whether it is an e-mail address rather than a repository, a unit or a file."""
    return not match[0].startswith("git@") and not match[0].endswith(_NO_DOMAINS)


def _has_digit(match: "re.Match[str]") -> bool:
    return any(map(str.isdigit, match[0]))


def _is_token(match: "re.Match[str]") -> bool:
    """Whether it is random, and not made of words and numbers between dashes."""
    text = match[0].rpartition("sk-")[2]
    has_long_part = max(map(len, re.split("[-_]", text))) >= _LONG_PART
    return is_random(text) and (has_long_part or text != text.lower())


def _is_value(match: "re.Match[str]") -> bool:
    """Whether an assigned value is a secret rather than a name in code, a type or a placeholder."""
    value = match[2]
    has_both = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    is_code = _is_call(match) and _DOTTED.fullmatch(value)
    return has_both and not is_code and not _is_resource_name(match)


def _is_credential(match: "re.Match[str]") -> bool:
    value = match[2]
    is_dotted = not any(map(str.isdigit, value)) and _DOTTED.fullmatch(value)
    is_code = _NAME.fullmatch(value) or is_dotted or _is_call(match)
    is_header = _HEADER.fullmatch(value)
    return is_random(value) and not is_code and not is_header


def _is_resource_name(match: "re.Match[str]") -> bool:
    """Whether it is part of a name such as arn:aws:secretsmanager:us-east-1:1234:secret:shop/db."""
    before = match.string[max(0, match.start() - _LONGEST_ARN) : match.start()]
    return before.endswith(":") and "arn:" in before


def _is_call(match: "re.Match[str]") -> bool:
    return match.string[match.end(2) : match.end(2) + 1] == "("


def _is_basic(match: "re.Match[str]") -> bool:
    """Whether a text is base64 of a name and a password."""
    try:
        text = b64decode(match[2] + "=" * (-len(match[2]) % 4), validate=True).decode()
    except (Base64Error, ValueError):
        return False
    return ":" in text and text.isprintable()


# https://en.wikipedia.org/wiki/Payment_card_number: first digits of an issuer, numbers of digits.
_ISSUERS: Final = (
    (range(4, 5), (16,)),
    (range(51, 56), (16,)),
    (range(2221, 2721), (16,)),
    (range(34, 35), (15,)),
    (range(37, 38), (15,)),
    (range(300, 306), (14,)),
    (range(36, 37), (14,)),
    (range(38, 40), (14,)),
    (range(3528, 3590), (16,)),
    (range(6011, 6012), (16,)),
    (range(644, 660), (16,)),
    (range(62, 63), (16,)),
)


def is_card(number: str) -> bool:
    """Whether digits are the number of a payment card: issuer, length, and Luhn's checksum."""
    return _has_issuer(number) and _luhn(number) and len(set(number)) > 1


def _has_issuer(number: str) -> bool:
    for first, lengths in _ISSUERS:
        if len(number) in lengths and int(number[: len(str(first.start))]) in first:
            return True
    return False


def _luhn(number: str) -> bool:
    """https://en.wikipedia.org/wiki/Luhn_algorithm"""
    total = 0
    for position, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _is_card(match: "re.Match[str]") -> bool:
    return is_card(_digits(match[0]))


def _is_international(match: "re.Match[str]") -> bool:
    """https://www.itu.int/rec/T-REC-E.164: at most 15 digits; the shortest in use have 8.

    Those of North America have 11, unlike +1130 2010 of a time and +100000000 in code.
    """
    digits = _digits(match[0])
    is_decimal = match[0].count(".") == 1
    is_number = len(digits) == 11 if digits.startswith("1") else 8 <= len(digits) <= 15
    return is_number and not is_decimal


def _token(
    name: str,
    pattern: str,
    *needles: str,
    check: Check | None = None,
    gate: str = "",
    strict: str | None = None,
) -> Rule:
    return Rule(SECRETS, name, f"{_BEGIN}(?:{pattern})", needles, check, gate, strict)


# The end of what is found: a pattern without one would match the beginning of something longer.
_BEFORE: Final = r"(?<![\w.+=/-])"
_NAMES: Final = (
    r"passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key|account[_-]?key|"
    r"(?:access|auth|refresh|id|session)[_-]?token|[?&]token|[?&]sig(?:nature)?"
)
_IS: Final = r"(?:[\"']?\s{0,3}[:=]\s{0,3}[\"']?|[\"'],\s{0,3}b?[\"'])"
_HEADERS: Final = r"(?:proxy-)?authorization|x-[a-z-]{0,40}(?:key|token)|api-key"

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        SECRETS,
        "private key",
        # Up to the end of a text that was cut.
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,20}-----[\s\S]*?"
        r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,20}-----|$)",
        ("-----begin",),
    ),
    _token(
        "api key",
        r"sk-[A-Za-z0-9_-]{16,}",
        "sk-",
        check=_is_token,
        strict=rf"{_BEGIN}sk-[a-z_-]{{0,30}}[A-Z0-9][A-Za-z0-9_-]{{14,}}",
    ),
    _token("api key", r"cs-[A-Za-z0-9_-]{43}", "cs-"),
    _token("api key", r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}", "k_live_", "k_test_"),
    _token("aws key", r"(?:AKIA|ASIA)[A-Z2-7]{16}\b", "akia", "asia", gate="0", check=_has_digit),
    _token("github token", r"gh[pousr]_[A-Za-z0-9]{36,}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    _token("github token", r"github_pat_[A-Za-z0-9_]{22,}", "github_pat_"),
    _token("gitlab token", r"glpat-[A-Za-z0-9_-]{20,}", "glpat-"),
    _token("google key", r"AIza[A-Za-z0-9_-]{35}", "aiza", gate="0", check=_has_digit),
    _token(
        "google token", r"ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}", "ya00.", "gocspx-"
    ),
    _token(
        "slack token",
        r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{20,}",
        "xox",
        "xapp-",
        gate="-",
    ),
    _token("slack webhook", r"hooks\.slack\.com/(?:services|workflows)/[\w/-]{16,}", "hooks.slack"),
    _token("hugging face token", r"hf_[A-Za-z0-9]{30,}", "hf_"),
    _token("npm token", r"npm_[A-Za-z0-9]{36}", "npm_"),
    _token("pypi token", r"pypi-[A-Za-z0-9_-]{50,}", "pypi-"),
    _token("api key", r"(?:gsk_|xai-|pplx-)[A-Za-z0-9]{40,}", "gsk_", "xai-", "pplx-"),
    _token(
        "grafana token",
        r"glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_eyJ[A-Za-z0-9+/=]{20,}",
        "glsa_",
        "glc_",
    ),
    _token("sendgrid key", r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", "sg."),
    Rule(
        SECRETS,
        "jwt",
        # Not after a dash: the beginnings in "-eyJ-eyJ-…" would take quadratic time.
        r"(?<![\w-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        ("eyj",),
        gate=".",
        strict=r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    ),
    Rule(
        SECRETS,
        "password",
        # Not of a user who begins with a bracket: "redis://[:password]@host" is a form to fill in.
        r"(://(?:[^\[/?#@:\s\"'<>][^/?#@:\s\"'<>]{0,255})?:)([^/?#@\s\"'<>]{1,256})(@)",
        ("@",),
        lambda match: not is_masked(match[2]),
    ),
    Rule(
        SECRETS,
        "token",
        r"((?i:bearer)(?:\s|%20|\+){1,3})([A-Za-z0-9._~+/=-]{8,})()",
        ("bearer",),
        _is_credential,
        " %+",
        r"((?i:bearer)\s{1,3})[A-Za-z0-9._~+/=-]{20,}()",
    ),
    Rule(
        SECRETS,
        "password",
        r"((?i:basic)\s{1,3})([A-Za-z0-9+/]{6,}={0,2})()",
        ("basic",),
        _is_basic,
        " ",
        r"((?i:basic)\s{1,3})[A-Za-z0-9+/]{6,}={1,2}()",
    ),
    # A header, as a line, as JSON, or as a pair of Python.
    Rule(
        SECRETS,
        "credential",
        rf"((?i:{_HEADERS}){_IS})([^\s\"',;&<>()\[\]]{{8,}})()",
        ("authorization", "x-", "api-key"),
        _is_credential,
        "=:'\"",
        rf"((?i:{_HEADERS}){_IS})[^\s\"',;&<>()\[\]\\]{{16,}}()",
    ),
    Rule(
        SECRETS,
        "cookie",
        rf"((?i:cookie){_IS})([\w.!$%*-]{{1,64}}=[^\r\n\"']{{4,}})()",
        ("cookie",),
        gate="=",
    ),
    # In a query, in a line of settings, as JSON.
    Rule(
        SECRETS,
        "secret",
        rf"((?i:{_NAMES})[\"']?\s?[=:]\s?b?[\"']?)([^\s\"'&,;<>(){{}}\[\]]{{6,}})()",
        (
            *("passw", "passphrase", "secret", "sig=", "signature="),
            *("token=", "token:", "token ", "token'", 'token"'),
            *("api_key", "api-key", "apikey", "access_key", "access-key", "accesskey"),
            *("account_key", "account-key", "accountkey"),
        ),
        _is_value,
        "=:",
        rf"((?i:{_NAMES})[\"']?[=:]\s?[\"']?)[^\s\"'&,;<>(){{}}\[\]\\]{{8,}}()",
    ),
    Rule(
        EMAILS,
        "e-mail",
        r"(?<![\w.%+'-])[\w.%+'-]{0,255}[\w+-](?:@|%40)(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b",
        ("@", "%00"),
        _is_address,
        strict=r"[\w.%+'-]{0,255}[\w+-](?:@|%40)(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b",
    ),
    Rule(
        CARDS,
        "card number",
        r"(?<![\w.-])(?:[2-6][0-9]{13,18}|[2-6][0-9]{3}(?:[ -][0-9]{4}){3}"
        r"|3[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5})(?![\w-]|\.[0-9])",
        (
            *("0000-0000-0000-0000", "0000 0000 0000 0000", "00000000000000"),
            *("0000-000000-0000", "0000 000000 0000"),
        ),
        _is_card,
        "0",
        r"\b[2-6][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{4}\b",
    ),
    Rule(
        PHONES,
        "phone number",
        rf"{_BEFORE}\+[ (]?[1-9](?:[ ()./-]{{0,2}}[0-9]){{7,16}}(?![\w-])",
        ("+0", "+(0"),
        _is_international,
        strict=r"\+[1-9](?:[ ()./-]{0,2}[0-9]){7,14}\b",
    ),
    # https://en.wikipedia.org/wiki/North_American_Numbering_Plan
    Rule(
        PHONES,
        "phone number",
        rf"{_BEFORE}(?:\([2-9][0-9]{{2}}\) ?|[2-9][0-9]{{2}}-)[2-9][0-9]{{2}}-[0-9]{{4}}(?![\w-])",
        ("000-000-0000", ")000-0000", ") 000-0000"),
        strict="",
    ),
    Rule(
        PHONES,
        "phone number",
        r"((?i:phone|mobile|tel)[ a-z]{0,12}[:=.]?\s{0,2})(\(?0[0-9 ()/-]{6,18}[0-9])()",
        ("phone", "mobile", "tel"),
        gate="0",
        strict="",
    ),
)
