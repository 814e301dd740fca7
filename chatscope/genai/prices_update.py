"""Write the price table from the data of the installed `genai-prices` (MIT licence).

    python -m chatscope.genai.prices_update

Only exact names are taken over: a pattern that matches any name that starts or contains something
would give a price to models that do not exist yet. Left out are models without prices for tokens,
fine-tuned ones, and models of audio without a price for audio.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any, Final

from chatscope.genai.pricing import SHIPPED, SIMULATED

# name in genai-prices: name in our table
_PRICES: Final = {
    "input_mtok": "prompt",
    "output_mtok": "completion",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "cache_audio_read_mtok": "audio_cache_read",
    "output_audio_mtok": "audio_output",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
    "output_reasoning_mtok": "reasoning",
}
# Peak hours from Monday to Friday only, which the data does not say:
# https://api-docs.deepseek.com/quick_start/pricing
_ON_WEEKDAYS: Final = frozenset({"deepseek-flash", "deepseek-v4-flash", "deepseek-v4-pro"})
_FREE: Final = {"prompt": 0, "completion": 0}
# A pretended price, so that the dashboards of a demonstration show a cost.
_SIMULATED: Final = {"simulated-1": {"prompt": 0.5, "completion": 1.5}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table; `--date` is the day of which the prices are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--date", type=date.fromisoformat, default=date.today())
    parser.add_argument("--output", type=Path, default=SHIPPED)
    options = parser.parse_args(arguments)
    table = build(options.date)
    options.output.write_text(render(table))
    count = sum(len(provider["models"]) for provider in table["providers"].values())
    sys.stdout.write(f"{options.output}: {count} models, {table['version']}, {table['date']}\n")
    return 0


def build(day: date) -> dict[str, Any]:
    """Return the table with the prices of that day, and those that are announced for later."""
    from genai_prices.data import providers  # noqa: PLC0415  # a tool, not a dependency

    return {
        "version": f"genai-prices {version('genai-prices')}",
        "date": day.isoformat(),
        "licence": distribution("genai-prices").read_text("licenses/LICENSE"),
        "providers": {
            **{provider.id: entry for provider in providers if (entry := _provider(provider, day))},
            SIMULATED: {"models": _SIMULATED},
        },
    }


def render(table: dict[str, Any]) -> str:
    """Return the table as JSON, a line for each provider and each model."""
    lines = []
    for name, provider in table["providers"].items():
        parts = {key: value for key, value in provider.items() if key != "models"}
        models = ",\n".join(
            f"{_json(id)}:{_json(model)}" for id, model in provider["models"].items()
        )
        head = _json(parts)[1:-1]
        lines.append(f'{_json(name)}:{{{head}{"," if head else ""}"models":{{\n{models}\n}}}}')
    head = _json({key: value for key, value in table.items() if key != "providers"})[:-1]
    providers = ",\n".join(lines)
    return f'{head},\n"providers":{{\n{providers}\n}}}}\n'


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _provider(provider: Any, day: date) -> dict[str, Any] | None:
    models, aliases = {}, {}
    for model in provider.models:
        names = sorted(_names(provider, model), key=lambda name: (name != model.id.lower(), name))
        prices = _model(model, day)
        if prices is None or not names:
            continue
        models[names[0]] = prices
        aliases.update(dict.fromkeys(names[1:], names[0]))
    if not models:
        return None
    fallback = provider.fallback_model_providers
    return {
        **({"fallback": fallback} if fallback else {}),
        **({"names": dict(sorted(aliases.items()))} if aliases else {}),
        "models": dict(sorted(models.items())),
    }


def _names(provider: Any, model: Any) -> set[str]:
    """Return the exact names of a model: those for which the data chooses this model."""
    literals = {text.rstrip("-@:.").lower() for text in (model.id, *_literals(model.match))}
    return {
        name
        for name in literals
        if name and not _is_fine_tuned(name) and provider.find_model(name) is model
    }


def _literals(match: Any) -> Iterator[str]:
    for clause in getattr(match, "or_", ()) or getattr(match, "and_", ()):
        yield from _literals(clause)
    for kind in ("equals", "starts_with", "contains", "ends_with"):
        if hasattr(match, kind):
            yield getattr(match, kind)


def _is_fine_tuned(name: str) -> bool:
    return name.startswith("ft:") or ".ft" in name


def _model(model: Any, day: date) -> Any:
    conditional = model.prices if isinstance(model.prices, list) else [None]
    found: list[dict[str, Any]] = []
    for each in conditional:
        prices = _prices(model, model.prices if each is None else each.prices)
        if prices is None:
            return None
        constraint = getattr(each, "constraint", None)
        start = getattr(constraint, "start_date", None)
        if start is not None and start > day:
            prices = {"from": start.isoformat(), **prices}
        elif constraint is None or start is not None:
            # Prices that were replaced before this day.
            found = []
        else:
            between = [constraint.start_time, constraint.end_time]
            days = {"weekdays": True} if model.id in _ON_WEEKDAYS else {}
            prices = {"between": [f"{time:%H:%M}" for time in between], **days, **prices}
        found.append(prices)
    return found[0] if len(found) == 1 else found


def _prices(model: Any, prices: Any) -> dict[str, Any] | None:
    given = {
        ours: price
        for theirs, ours in _PRICES.items()
        if (price := getattr(prices, theirs)) is not None
    }
    if not given and model.id.endswith(":free"):
        return _FREE
    hears = any(word in model.id for word in ("audio", "realtime"))
    if "prompt" not in given or (hears and not {"audio_input", "audio_output"} & given.keys()):
        return None
    base = {name: _number(getattr(price, "base", price)) for name, price in given.items()}
    starts = sorted(
        {tier.start for price in given.values() for tier in getattr(price, "tiers", ())}
    )
    tiers = [{"above": start, **_at(given, start)} for start in starts]
    return {"completion": 0, **base, **({"tiers": tiers} if tiers else {})}


def _at(given: dict[str, Any], start: int) -> dict[str, Any]:
    """Return the prices of prompts of more tokens than `start`, where they differ."""
    found = {}
    for name, price in given.items():
        reached = [tier for tier in getattr(price, "tiers", ()) if tier.start <= start]
        if reached:
            found[name] = _number(max(reached, key=lambda tier: tier.start).price)
    return found


def _number(price: Any) -> float | int:
    return int(price) if price == int(price) else float(price)


if __name__ == "__main__":
    sys.exit(main())
