"""Which models have a price: logged at startup, and exported as a metric."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatscope.genai.pricing import Price, PriceTable

if TYPE_CHECKING:
    from chatscope.genai.recorder import Recorder


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model that a service calls; `free` if its calls cost nothing.

    `upstream`: the provider's name of the model, if it differs.
    """

    name: str
    provider: str
    upstream: str | None = None
    server_address: str | None = None
    free: bool = False

    def price(self, prices: PriceTable) -> Price | None:
        """Return its price that applies now, by its own name or else by the provider's."""
        for name in (self.name, self.upstream):
            if name and (found := prices.price(name, self.provider, self.server_address)):
                return found
        return None


def report_prices(recorder: "Recorder", models: Iterable[ServedModel]) -> None:
    """Export whether the price of each model is known, and log the names of those without one."""
    priced = {
        model.name: model.free or model.price(recorder.prices) is not None for model in models
    }
    recorder.instruments.show_prices(priced)
    missing = sorted(name for name, known in priced.items() if not known)
    if missing:
        recorder.log(
            "WARNING",
            f"models without a price, so without a cost: {', '.join(missing)}; prices are of "
            f"{recorder.prices.version}, PRICES_FILE adds others",
            {},
        )
