"""The cost of a response: prices by kind of token, of our table and of the operator's file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from chatscope.genai.price_names import MAKERS, provider_of, spellings
from chatscope.genai.request import Usage

SHIPPED: Final = Path(__file__).with_name("prices.json")
SIMULATED: Final = "simulated"
_TOKENS_PER_PRICE: Final = 1_000_000
# Models whose price is kept after it was looked up.
_LOOKUPS: Final = 1_024
_SATURDAY: Final = 5
# The cost of any number of tokens that a counter holds stays finite.
_Usd = Annotated[float, Field(ge=0, le=1e9)]


class PriceTableError(ValueError):
    """A price table cannot be read; names the file, the entry and what is accepted."""


class _Prices(BaseModel):
    """US dollars for a million tokens; without a price of its own, a token has that of its side."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    cache_read: _Usd | None = None
    cache_write: _Usd | None = None
    cache_write_1h: _Usd | None = None
    audio_input: _Usd | None = None
    audio_cache_read: _Usd | None = None
    image_input: _Usd | None = None
    reasoning: _Usd | None = None
    audio_output: _Usd | None = None
    image_output: _Usd | None = None


class Tier(_Prices):
    """Prices of the whole request if its prompt has more tokens than `above`.

    A price that is not given is that of the model.
    """

    above: NonNegativeInt
    prompt: _Usd | None = None
    completion: _Usd | None = None


class Price(_Prices):
    """The prices of one model."""

    prompt: _Usd
    completion: _Usd
    tiers: Sequence[Tier] = ()

    def cost(self, usage: Usage) -> float:
        """Return the US dollars for one response."""
        price = next((p for above, p in self._tiers if usage.prompt_tokens > above), self)
        return (_input(price, usage) + _output(price, usage)) / _TOKENS_PER_PRICE

    @cached_property
    def _tiers(self) -> list[tuple[int, "Price"]]:
        """The prices of each tier, the highest one first."""
        found = []
        for tier in sorted(self.tiers, key=lambda tier: tier.above, reverse=True):
            other = tier.model_dump(exclude={"above"}, exclude_none=True)
            found.append((tier.above, self.model_copy(update=other)))
        return found


def _input(price: Price, usage: Usage) -> float:
    """Return the price of the prompt, in millionths of a dollar."""
    left = usage.prompt_tokens
    # A kind of input without a price is text, which may have come from the cache.
    audio = usage.audio_input_tokens or 0 if price.audio_input is not None else 0
    audio = min(audio, left)
    image = usage.image_input_tokens or 0 if price.image_input is not None else 0
    image = min(image, left - audio)
    read = min(usage.cache_read_tokens or 0, left)
    written = min(usage.cache_write_tokens or 0, left - read)
    hour = min(usage.cache_write_1h_tokens or 0, written)
    # What the cache contained beside text: as reported, else as little as possible.
    overlap = max(0, audio + image + read + written - left)
    cached_audio = min(usage.audio_cache_read_tokens or 0, audio, read)
    if usage.audio_cache_read_tokens is None:
        cached_audio = min(overlap, audio, read)
    image -= min(image, max(0, overlap - cached_audio))
    audio -= cached_audio
    read -= cached_audio
    text = max(0, left - audio - cached_audio - image - read - written)
    write = _known(price.cache_write, price.prompt)
    spoken = _known(price.audio_input, price.prompt)
    return (
        text * price.prompt
        + read * _known(price.cache_read, price.prompt)
        + (written - hour) * write
        + hour * _known(price.cache_write_1h, write)
        + audio * spoken
        + cached_audio * _known(price.audio_cache_read, spoken)
        + image * _known(price.image_input, price.prompt)
    )


def _output(price: Price, usage: Usage) -> float:
    """Return the price of the completion, in millionths of a dollar."""
    left, total = usage.completion_tokens, 0.0
    for count, own in (
        (usage.audio_output_tokens, price.audio_output),
        (usage.image_output_tokens, price.image_output),
        (usage.reasoning_tokens, price.reasoning),
    ):
        if own is not None:
            counted = min(count or 0, left)
            left -= counted
            total += counted * own
    return total + left * price.completion


def _known(price: float | None, fallback: float) -> float:
    return fallback if price is None else price


@dataclass(frozen=True)
class _Rule:
    """A price that applies from a date on, or daily between two times of UTC, or always."""

    price: Price
    start: date | None = None
    between: tuple[time, time] | None = None
    weekdays: bool = False  # from Monday to Friday only

    def applies(self, now: datetime) -> bool:
        if self.start is not None and now.date() < self.start:
            return False
        if self.weekdays and now.weekday() >= _SATURDAY:
            return False
        if self.between is None:
            return True
        first, last = self.between
        if last < first:
            return now.time() >= first or now.time() < last
        return first <= now.time() < last


@dataclass(frozen=True)
class PriceTable:
    """Prices by model, and by provider and model.

    `prices` are the operator's, by `model` or `provider:model`; they come before those of
    `table`, the content of a file that `prices_update` wrote.
    """

    prices: Mapping[str, Price]
    table: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read the table beside this module and the operator's file, if any.

        The file is JSON: `{"model": {"prompt": 0.15, "completion": 0.6}}`, see docs/cost.md; or a
        whole table as `prices_update` writes it, in place of ours. Raises PriceTableError.
        """
        if path is None:
            return cls({}, _shipped())
        found = _read(path)
        if isinstance(found, dict) and "providers" in found and "version" in found:
            _check_table(path, found)
            return cls({}, found)
        return cls(dict(_own_prices(path, found)), _shipped())

    @property
    def version(self) -> str:
        """Where the prices come from, and of which day they are."""
        return f"{self.table.get('version', 'none')}, {self.table.get('date', 'no date')}"

    def cost(
        self, model: str, prompt_tokens: int, completion_tokens: int, provider: str | None = None
    ) -> float | None:
        """Return the US dollars for plain tokens; None where the model has no price."""
        return self.cost_of(Usage(prompt_tokens, completion_tokens), model, provider)

    def cost_of(
        self,
        usage: Usage,
        model: str,
        provider: str | None = None,
        host: str | None = None,
        *,
        now: datetime | None = None,
    ) -> float | None:
        """Return the US dollars for one response; None where the model has no price.

        `host` is the host name of the endpoint, which identifies an OpenAI-compatible provider. A
        cost that the provider reports takes precedence over our table, but not over the
        operator's prices.
        `now` is in UTC, for prices that depend on the time.
        """
        rules, is_own = self._lookup(model, provider, host)
        if usage.reported_cost is not None and not is_own:
            return usage.reported_cost
        price = _current(rules, now)
        return None if price is None else price.cost(usage)

    def price(
        self, model: str, provider: str | None = None, host: str | None = None
    ) -> Price | None:
        """Return the prices of a model that apply now."""
        return _current(self._lookup(model, provider, host)[0])

    def without_simulated(self) -> Self:
        """Return the table without the prices of models that cost nothing."""
        providers = {
            name: found
            for name, found in self.table.get("providers", {}).items()
            if name != SIMULATED
        }
        return type(self)(self.prices, {**self.table, "providers": providers})

    @cached_property
    def _lookup(self) -> Any:
        """The lookup with its cache: of this table, as `lru_cache` would keep a table alive."""
        return lru_cache(maxsize=_LOOKUPS)(self._find)

    def _find(
        self, model: str, provider: str | None, host: str | None
    ) -> tuple[tuple[_Rule, ...], bool]:
        """Return the rules of the model's price, and whether they are the operator's."""
        id = provider_of(provider, host)
        names = list(spellings(model))
        entry = self._entry(id, names)
        others = names[1:] if entry is None else [entry[0]]
        for name in (model, names[0], *others):
            for key in (f"{provider}:{name}", f"{id}:{name}", name):
                if key in self.prices:
                    return (_Rule(self.prices[key]),), True
        return (() if entry is None else _rules(entry[1])), False

    def _entry(self, id: str | None, names: Sequence[str]) -> tuple[str, Any] | None:
        """Return the name and the prices of a model in the table."""
        providers = self.table.get("providers", {})
        known = providers.get(id, {})
        sources = (id, *known.get("fallback", ())) if id else MAKERS
        if found := self._first(sources, names):
            return found
        # Gateways name the provider with the model: `anthropic/claude-…`.
        vendor, slash, rest = names[0].partition("/")
        maker = provider_of(vendor, None)
        if slash and maker in providers and (id in (None, "openai", maker) or not known):
            return self._first((maker,), list(spellings(rest)))
        # Nobody else has models of these names.
        return self._first((SIMULATED,), names[:1])

    def _first(self, sources: Sequence[str | None], names: Sequence[str]) -> tuple[str, Any] | None:
        for name in names:
            for source in sources:
                found = self.table.get("providers", {}).get(source, {})
                canonical = found.get("names", {}).get(name, name)
                if canonical in found.get("models", {}):
                    return canonical, found["models"][canonical]
        return None


def _current(rules: Sequence[_Rule], now: datetime | None = None) -> Price | None:
    """Return the price that applies now: the last one whose condition holds."""
    if len(rules) == 1:
        return rules[0].price
    if not rules:
        return None
    now = now or datetime.now(UTC)
    return next((rule.price for rule in reversed(rules) if rule.applies(now)), rules[0].price)


def _rules(entry: Any) -> tuple[_Rule, ...]:
    found = []
    for each in entry if isinstance(entry, list) else [entry]:
        prices = dict(each)
        start, between = prices.pop("from", None), prices.pop("between", None)
        weekdays = prices.pop("weekdays", False)
        first, last = map(time.fromisoformat, between) if between else (time(), time())
        found.append(
            _Rule(
                Price.model_validate_json(json.dumps(prices)),
                date.fromisoformat(start) if start else None,
                (first, last) if between else None,
                weekdays,
            )
        )
    return tuple(found)


@cache
def _shipped() -> Any:
    return _read(SHIPPED)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise PriceTableError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise PriceTableError(f"{path}: {_explain((), f'invalid JSON: {error}')}") from error


def _own_prices(path: Path, found: Any) -> Iterator[tuple[str, Price]]:
    """Yield the operator's prices by `model` or `provider:model`."""
    if not isinstance(found, dict):
        raise PriceTableError(f"{path}: {_explain((), 'must be a JSON object')}")
    for name, entry in found.items():
        if isinstance(entry, dict) and entry and all(_is_dict(each) for each in entry.values()):
            for model, prices in entry.items():
                yield f"{name}:{model}", _own_price(path, (name, model), prices)
        else:
            yield name, _own_price(path, (name,), entry)


def _check_table(path: Path, table: Mapping[str, Any]) -> None:
    """Check a whole table, which is read when a model is looked up. Raises PriceTableError."""

    def need(condition: object, place: tuple[str, ...], accepted: str) -> None:
        if not condition:
            where = ".".join(place)
            raise PriceTableError(
                f"{path}: {where}: must be {accepted}, as `make prices` writes it"
            )

    for name in ("version", "date"):
        need(isinstance(table.get(name, ""), str), (name,), "a text")
    need(_is_dict(table["providers"]), ("providers",), "an object")
    for name, provider in table["providers"].items():
        place = ("providers", name)
        need(_is_dict(provider), place, "an object")
        for part in ("models", "names"):
            need(_is_dict(provider.get(part, {})), (*place, part), "an object")
        names = list(provider.get("names", {}).values())
        need(all(isinstance(each, str) for each in names), (*place, "names"), "texts by name")
        others = provider.get("fallback", [])
        is_list = isinstance(others, list) and all(isinstance(each, str) for each in others)
        need(is_list, (*place, "fallback"), "a list of names of providers")
        for model, entry in provider.get("models", {}).items():
            need(_has_rules(entry), (*place, "models", model), "prices, or a list of prices")


def _has_rules(entry: Any) -> bool:
    entries = entry if isinstance(entry, list) else [entry]
    if not all(_is_dict(each) and _has_conditions(each) for each in entries):
        return False
    try:
        _rules(entry)
    except (ValueError, RecursionError):  # ValidationError is a ValueError
        return False
    return True


def _has_conditions(entry: Mapping[str, Any]) -> bool:
    start, between = entry.get("from"), entry.get("between")
    times = between if between is not None else ["00:00", "00:00"]
    return (
        (start is None or isinstance(start, str))
        and isinstance(times, list)
        and len(times) == 2
        and all(isinstance(each, str) for each in times)
        and isinstance(entry.get("weekdays", False), bool)
    )


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _own_price(path: Path, place: tuple[str, ...], entry: Any) -> Price:
    try:
        return Price.model_validate_json(json.dumps(entry))
    except RecursionError:
        raise PriceTableError(f"{path}: {_explain(place, 'nested too deeply')}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place += tuple(str(part) for part in first["loc"])
        raise PriceTableError(f"{path}: {_explain(place, first['msg'])}") from error


def _explain(place: tuple[str, ...], problem: str) -> str:
    return (
        f"{'.'.join(place) or 'the file'}: {problem}; accepted is "
        '{"model": {"prompt": USD, "completion": USD}}, each for a million tokens, 0 or more'
    )
