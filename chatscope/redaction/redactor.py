"""Replace secrets and personal data in texts, at little cost for a text that has none.

A text is searched in two steps. Its UTF-8 bytes, in lower case and with each digit as `0`, are
looked through for parts that a secret would contain; only then are the patterns of those parts
tried. Nothing is remembered of a text.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from .rules import KINDS, RULES, SECRETS, USER_ID, Rule, is_card, is_masked

# Also each blank as a space.
_LOWER: Final = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ123456789\t\n\v\f\r", b"abcdefghijklmnopqrstuvwxyz000000000     "
)
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Shorter texts hold no secret that a pattern finds.
_SHORTEST: Final = 6
# Of a configured value; a shorter one would be found in ordinary words.
_SHORTEST_VALUE: Final = 4
# Numbers as long as those of payment cards.
_LEAST_CARD: Final = 10**13
_MOST_CARD: Final = 10**19
_PSEUDONYM: Final = 32  # hex digits
# Names of attributes whose values are secrets, whatever they look like.
_SECRET_NAME: Final = re.compile(
    r"(?i)(?:^|[._-])(?:authorization|cookie|passw(?:or)?d|passwd|passphrase|secret|credentials?"
    r"|api[._-]?key|private[._-]?key|secret[._-]?key|access[._-]?key"
    r"|(?:access|auth|refresh|id|session|bearer)[._-]?token|token)$"
)
_MARKED: Final = re.compile(r"<redacted [\w -]{1,40}>")


class Redactor:
    """The rules of a process: kinds, further patterns, values that are secrets."""

    def __init__(
        self,
        kinds: Iterable[str] = KINDS,
        *,
        values: Iterable[str] = (),
        patterns: Mapping[str, str] | None = None,
        user_id_key: str | None = None,
    ) -> None:
        """Redact `kinds`; `values` are secrets, `patterns` regular expressions by name.

        With `user_id_key`, a pseudonym takes the place of each `user.id`.
        """
        self.kinds = frozenset(kinds)
        self.values = frozenset(values)
        self.patterns = dict(patterns or {})
        self._user_id_key = user_id_key
        rules = [rule for rule in RULES if rule.kind in self.kinds]
        self._rules = [(rule, rule.compiled(), rule.needles) for rule in rules]
        self._groups = _by_character(rules)
        self._others = [
            (f"<redacted {name}>", re.compile(each)) for name, each in self.patterns.items()
        ]
        forms = {form for value in self.values for form in _forms(value)}
        self._known = _any_of(forms)
        self._known_bytes = tuple(form.encode() for form in forms)
        self.secret_name: Callable[[str], bool] = lru_cache(maxsize=4096)(self._is_secret_name)

    @property
    def is_needed(self) -> bool:
        """Whether anything is ever replaced."""
        given = (self.kinds, self.values, self.patterns, self._user_id_key)
        return any(given)

    def suspects(self, data: bytes) -> bool:
        """Whether a text, given in UTF-8, may hold something; False is certain."""
        if len(data) < _SHORTEST and not self._others and not self._known:
            return False
        found = None
        # Which characters beside letters there are, each digit as a zero.
        for character in set(data.translate(_LOWER, _LETTERS)):
            if character in self._groups:
                needles = self._groups[character]
                if found is None:
                    found = _plain(data).__contains__
                if needles is None or any(map(found, needles)):
                    return True
        return bool(self._others) or any(map(data.__contains__, self._known_bytes))

    def text(self, found: str) -> str:
        """Return a text with a mark instead of each match of a rule."""
        try:
            data = found.encode()
        except UnicodeEncodeError:
            data = found.encode("utf-8", "replace")
        return self.redact(found, data) if self.suspects(data) else found

    def redact(self, found: str, data: bytes, kinds: Iterable[str] = KINDS) -> str:
        """Do the same for a text that is suspected; `data` is it in UTF-8."""
        if self._known is not None and SECRETS in kinds:
            found = self._known.sub("<redacted secret>", found)
        for mark, pattern in self._others:
            found = pattern.sub(mark, found)
        contains = _plain(data).__contains__
        for rule, compiled, needles in self._rules:
            if rule.kind in kinds and any(map(contains, needles)):
                found = compiled.sub(_replacing(rule), found)
        return found

    def integer(self, found: int) -> int | str:
        """Return a number, or the mark of a payment card's number."""
        if "cards" in self.kinds and _LEAST_CARD <= found < _MOST_CARD and is_card(str(found)):
            return "<redacted card number>"
        return found

    def user_id(self, found: str) -> str:
        """Return what is recorded as the identity of a person: itself unless a key is set."""
        if self._user_id_key is not None:
            return pseudonym(found, self._user_id_key)
        data = found.encode("utf-8", "replace")
        return self.redact(found, data, (SECRETS,)) if self.suspects(data) else found

    def attribute(self, name: str, value: Any) -> tuple[Any, bool]:
        """Return the value of an attribute, and whether it is to be encoded as it is.

        Otherwise the texts in it are still to be redacted.
        """
        if name == USER_ID and type(value) is str:
            return self.user_id(value), True
        if self.secret_name(name) and _holds_text(value):
            return "<redacted value>", True
        return value, False

    def _is_secret_name(self, name: str) -> bool:
        return SECRETS in self.kinds and _SECRET_NAME.search(name) is not None


def pseudonym(user_id: str, key: str) -> str:
    """Return the text that stands for a `user.id` where the setting has that key."""
    return hmac.new(key.encode(), user_id.encode(), hashlib.sha256).hexdigest()[:_PSEUDONYM]


def _holds_text(value: Any) -> bool:
    """Whether a value may be a secret: a number or a truth value is none."""
    if type(value) is str:
        return bool(value) and not is_masked(value)
    return value is not None and not isinstance(value, bool | int | float)


def _replacing(rule: Rule) -> Callable[["re.Match[str]"], str]:
    mark, check = rule.mark, rule.check

    def replace(match: "re.Match[str]") -> str:
        if check is not None and not check(match):
            return match[0]
        if not match.re.groups:
            return mark
        if _MARKED.search(match[0]):
            return match[0]  # another rule was here
        return f"{match[1]}{mark}{match[match.re.groups]}"

    return replace


def _plain(data: bytes) -> str:
    """Return a text for needles; its search is faster than that of bytes."""
    return data.translate(_LOWER).decode("latin-1")


# Characters that are rarer than any word.
_RARE: Final = "@%+_-."


def _by_character(rules: Iterable[Rule]) -> dict[int, tuple[str, ...] | None]:
    """Group the needles of rules by characters that are no letters.

    A needle of one character needs no further look.
    """
    groups: dict[str, set[str]] = {}
    for rule in rules:
        for needle in rule.needles:
            rare = next(each for each in (*_RARE, *needle) if each in needle)
            for character in rule.gate or rare:
                groups.setdefault(character, set()).add(needle)
    return {
        ord(character): None if character in found else tuple(sorted(found))
        for character, found in groups.items()
    }


def _forms(value: str) -> set[str]:
    """Return a secret as it may stand in a text: itself, and quoted as part of a URL."""
    if len(value.strip()) < _SHORTEST_VALUE:
        return set()
    return {value, quote(value, safe=""), quote(value)}


def _any_of(forms: Iterable[str]) -> "re.Pattern[str] | None":
    # A secret may contain another one.
    ordered = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None
