"""Models that the demo requests: those that cost nothing, unless others are configured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

SIMULATED: Final = "simulated-1"
_SIMULATED_OWNER: Final = "simulated"
# The simulated providers of DEMO_PROVIDERS (app/demo_models.toml), whose names begin their models'.
VENDORS: Final = ("northwind", "contoso", "fabrikam")
_EMBEDDING: Final = "embed"
_LARGE: Final = "large"


@dataclass(frozen=True)
class DemoModels:
    """Models by purpose."""

    names: Sequence[str]

    def chat(self, random: Random) -> str:
        """Return a model for a chat."""
        return random.choice(self._chat)

    def large(self, random: Random) -> str:
        """Return an expensive model for a long prompt."""
        return random.choice([name for name in self._chat if _LARGE in name] or self._chat)

    def embedding(self, random: Random) -> str:
        """Return a model for embeddings; there must be one."""
        return random.choice(self._embedding)

    @property
    def has_embeddings(self) -> bool:
        """Whether one of them is for embeddings."""
        return bool(self._embedding)

    @property
    def _chat(self) -> list[str]:
        return [name for name in self.names if _EMBEDDING not in name] or list(self.names)

    @property
    def _embedding(self) -> list[str]:
        return [name for name in self.names if _EMBEDDING in name or name == SIMULATED]


def free(offered: Mapping[str, str]) -> list[str]:
    """Return the simulated models of `offered`, by owner; the vendors' if there are any."""
    simulated = [name for name, owner in offered.items() if owner == _SIMULATED_OWNER]
    vendors = [
        name for name, owner in offered.items() if owner in VENDORS and name.startswith(f"{owner}-")
    ]
    return vendors or simulated
