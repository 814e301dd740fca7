"""Headers and certificates that are read again when their files change."""

import os
import time
from pathlib import Path
from typing import Final

from .settings import EndpointSettings, read_headers

# How often the files are looked at.
_CHECK_SECONDS: Final = 1.0

_Fingerprint = tuple[tuple[int, int, int], ...]


class Credentials:
    """The current headers of a receiver, and whether to reconnect."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._files = tuple(
            path
            for path in (
                settings.certificate,
                settings.client_key,
                settings.client_certificate,
                settings.headers_file,
            )
            if path is not None
        )
        self._checked = time.monotonic()
        self._fingerprint = _fingerprint(self._files)
        self._headers = self._read()

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Names in lower case, with their values."""
        return self._headers

    def changed(self) -> bool:
        """Read the files again if they have changed; whether they have."""
        now = time.monotonic()
        if not self._files or now - self._checked < _CHECK_SECONDS:
            return False
        self._checked = now
        fingerprint = _fingerprint(self._files)
        if fingerprint == self._fingerprint:
            return False
        self._fingerprint = fingerprint
        self._headers = self._read()
        return True

    def _read(self) -> tuple[tuple[str, str], ...]:
        path = self._settings.headers_file
        if path is None:
            return self._settings.headers
        try:
            own = read_headers(path)
        except (OSError, ValueError):
            # It is being replaced: the old headers serve until the next change.
            return getattr(self, "_headers", self._settings.headers)
        names = {name for name, _ in own}
        return (*(pair for pair in self._settings.headers if pair[0] not in names), *own)


def _fingerprint(files: tuple[Path, ...]) -> _Fingerprint:
    found = []
    for path in files:
        try:
            status = os.stat(path)
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)
