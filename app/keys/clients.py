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
    def budgets_file(self) -> Path | None: ...


class KnownClients:
    """The keys of KEYS_FILE and their budgets. `keyring.replace` changes the keys while the
    service runs."""

    def __init__(self, keys: KeysFile, ledger: Ledger) -> None:
        self.keyring = Keyring(keys.keys)
        self.budgets = Budgets(ledger)

    @classmethod
    def of(cls, settings: _Settings) -> Self | None:
        """Return the configured clients; None if no key is needed. Raise OSError, sqlite3.Error."""
        if settings.keys_file is None:
            return None
        return cls(settings.keys_file, Ledger(settings.budgets_file))

    def find(self, presented: str) -> Key | None:
        """Return the key with this text."""
        return self.keyring.find(presented)

    def uses(self) -> Iterator[Use]:
        """Yield what each key has used today, in each unit."""
        return self.budgets.uses(self.keyring.keys)

    def close(self) -> None:
        """Write what the budgets have not written yet."""
        self.budgets.close()
