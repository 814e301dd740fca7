"""In-memory telemetry, with the metrics of a delivery that sends nothing."""

from chatscope.otlp import observe
from chatscope.providers import TelemetrySettings, build_delivery
from chatscope.testing import Memory as MemoryOfThePackage
from chatscope.testing import Point

__all__ = ["Memory", "Point"]


class Memory(MemoryOfThePackage):
    """Providers of all three signals, and their recorded items."""

    def __init__(self, settings: TelemetrySettings | None = None) -> None:
        super().__init__(settings)
        # It sends nothing: no processor is connected to it.
        self.delivery = build_delivery(self.settings)
        observe(self.providers.meter_provider.get_meter("test"), self.delivery, "chatscope")
