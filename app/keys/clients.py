"""The clients that may use the service: their keys and budgets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

from app.keys.budgets import Budgets, Use
from app.keys.file import Key, KeysFile
from app.keys.keyring import Keyring
from app.keys.ledger import Ledger


class _Settings(Protocol):
    @property
    def keys_file(self) -> KeysFile | None: ...
    @property
    def known_keys(self) -> KeysFile | None: ...
    @property
    def budgets_file(self) -> Path | None: ...


class KnownClients:
    """Known keys and their budgets. `keyring.replace` changes the keys while the service runs.

    `required`: whether a request without one of them is refused.
    """

    def __init__(self, keys: KeysFile, ledger: Ledger, *, required: bool = True) -> None:
        self.keyring = Keyring(keys.keys)
        self.budgets = Budgets(ledger)
        self.required = required

    @classmethod
    def of(cls, settings: _Settings) -> Self | None:
        """Return the configured clients; None if no key is known. Raise OSError, sqlite3.Error."""
        if settings.known_keys is None:
            return None
        ledger, required = Ledger(settings.budgets_file), settings.keys_file is not None
        return cls(settings.known_keys, ledger, required=required)

    def find(self, presented: str) -> Key | None:
        """Return the key with this text."""
        return self.keyring.find(presented)

    def uses(self) -> Iterator[Use]:
        """Yield what each key has used today, in each unit."""
        return self.budgets.uses(self.keyring.keys)

    def close(self) -> None:
        """Write what the budgets have not written yet."""
        self.budgets.close()
