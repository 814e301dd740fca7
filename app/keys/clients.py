"""The clients that may use the service: their keys and budgets."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol, Self

from loguru import logger

from app.config_file import ConfigFileError
from app.keys.budgets import Budgets, Use
from app.keys.file import Key, KeysFile
from app.keys.keyring import Keyring
from app.keys.ledger import Ledger, Storage
from app.keys.shared_storage import SharedStorage
from app.keys.sqlite_storage import SqliteStorage
from app.shared_store import SharedStore

# As long as a changed file waits until it is read. A file system does not tell every change of a
# file that is mounted into a container, so it is looked at.
LOOK_SECONDS: Final = 2.0


class _Settings(Protocol):
    @property
    def workers(self) -> int: ...
    @property
    def keys_file(self) -> KeysFile | None: ...
    @property
    def known_keys(self) -> KeysFile | None: ...
    @property
    def budgets_file(self) -> Path | None: ...


class KnownClients:
    """Known keys and their budgets."""

    def __init__(
        self, keys: KeysFile, ledger: Ledger, *, required: bool = True, may_have_limits: bool = True
    ) -> None:
        """`required`: whether a request without one of the keys is refused; `may_have_limits`:
        whether all workers count what the keys use together."""
        self.keyring = Keyring(keys.keys)
        self.budgets = Budgets(ledger)
        self.required = required
        self._may_have_limits = may_have_limits
        # The demo's keys are part of the service.
        self._path = keys.path if required else None
        # Read once more at first: the file may have changed since it was read.
        self._version: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, settings: _Settings, shared: SharedStore | None = None) -> Self | None:
        """Return the configured clients; None if no key is known. Raise OSError, sqlite3.Error.

        Budgets are in `shared`, or else in BUDGETS_FILE.
        """
        if settings.known_keys is None:
            return None
        storage: Storage | None = None
        if shared is not None:
            storage = SharedStorage(shared)
        elif settings.budgets_file is not None:
            storage = SqliteStorage(settings.budgets_file)
        return cls(
            settings.known_keys,
            Ledger(storage),
            required=settings.keys_file is not None,
            may_have_limits=settings.workers == 1 or storage is not None,
        )

    async def follow_file(self) -> None:
        """Use the keys of the file whenever it has changed, until this is cancelled.

        A file that is missing or invalid is reported; the keys before it stay in use.
        """
        while self._path:
            await asyncio.sleep(LOOK_SECONDS)
            if (version := await asyncio.to_thread(_version, self._path)) != self._version:
                self._version = version
                await self._read(self._path)

    async def _read(self, path: Path) -> None:
        try:
            found = await asyncio.to_thread(KeysFile.read, path)
            if found.has_limits and not self._may_have_limits:
                raise ConfigFileError(
                    [
                        "it has limits, which several workers share in BUDGETS_FILE or "
                        "SHARED_STORE_URL"
                    ]
                )
        except ConfigFileError as error:
            problems = "; ".join(error.problems)
            logger.error(
                "KEYS_FILE has changed and is invalid, its keys stay as they were",
                problems=problems,
            )
            return
        if found.keys != self.keyring.keys:
            self.keyring.replace(found.keys)
            logger.info("KEYS_FILE has changed", keys=len(found.keys))

    def find(self, presented: str) -> Key | None:
        """Return the key with this text."""
        return self.keyring.find(presented)

    def uses(self) -> Iterator[Use]:
        """Yield what each key has used today, in each unit."""
        return self.budgets.uses(self.keyring.keys)

    def close(self) -> None:
        """Write what the budgets have not written yet."""
        self.budgets.close()


def _version(path: Path) -> tuple[int, int, int] | None:
    """Return what differs between two versions of a file; None if it cannot be read."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
