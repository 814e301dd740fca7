"""The cost of a response by a price table: the included one or the operator's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, TypeAdapter, ValidationError

SHIPPED = Path(__file__).with_name("prices.json")
_TOKENS_PER_PRICE = 1_000_000


class PriceTableError(ValueError):
    """A price table cannot be read; names the file, the entry and what is accepted."""


class Price(BaseModel):
    """US dollars for a million tokens of each type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    prompt: NonNegativeFloat
    completion: NonNegativeFloat


_TABLE = TypeAdapter(dict[str, Price])


@dataclass(frozen=True)
class PriceTable:
    """Prices by exact model name."""

    prices: Mapping[str, Price]

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read a table: JSON, `{"model": {"prompt": 0.15, "completion": 0.6}}`.

        None reads the included table. Raises PriceTableError.
        """
        source = path or SHIPPED
        try:
            return cls(_TABLE.validate_json(source.read_bytes()))
        except OSError as error:
            raise PriceTableError(f"cannot read {source}: {error.strerror}") from error
        except ValidationError as error:
            raise PriceTableError(f"{source}: {_explain(error)}") from error

    def cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Return the cost of one response in US dollars; None for a model without a price."""
        price = self.prices.get(model)
        if price is None:
            return None
        dollars = price.prompt * prompt_tokens + price.completion * completion_tokens
        return dollars / _TOKENS_PER_PRICE


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    return (
        f"{where}: {first['msg']}; accepted is "
        '{"model": {"prompt": USD, "completion": USD}}, each for a million tokens, 0 or more'
    )
