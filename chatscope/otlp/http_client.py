"""OTLP over HTTP with binary Protocol Buffers."""

import gzip
import queue
import threading
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import requests

from .client import CANCELLED, UNREACHABLE, Outcome, Result, accepted, finished
from .credentials import Credentials
from .settings import EndpointSettings

# The receiver cannot read the batch, however often it is sent. Everything else can pass: also
# 401, 403 and 404, which a proxy answers during a rollout, and 413 from a smaller limit.
_REFUSED: Final = 400
_LARGEST_RESPONSE: Final = 64 * 1024

_Task = tuple[bytes, Future[Result]]


class HttpClient:
    """Posts one signal's encoded requests, one at a time, on a thread of its own."""

    def __init__(self, settings: EndpointSettings) -> None:
        self.timeout = settings.timeout
        self._settings = settings
        self._credentials = Credentials(settings)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self.lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def send(self, body: bytes) -> Future[Result]:
        """Start a call; see `Client`."""
        with self.lock:
            if self._closed:
                return finished(_cancelled())
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"otlp-http-{self._settings.signal}", daemon=True
                )
                self._thread.start()
        future: Future[Result] = Future()
        self._tasks.put((body, future))
        return future

    def close(self) -> None:
        """Start no further call; one under way ends with its timeout, and nobody waits for it."""
        with self.lock:
            self._closed = True
        self._tasks.put(None)

    def _run(self) -> None:
        session = self._session()
        while (task := self._tasks.get()) is not None:
            body, future = task
            if self._closed:
                future.set_result(_cancelled())
                continue
            if self._credentials.changed():
                session.close()
                session = self._session()
            future.set_result(self._post(session, body))
        session.close()

    def _session(self) -> requests.Session:
        settings = self._settings
        session = requests.Session()
        # The proxy variables are honoured, but never for this machine itself.
        session.trust_env = not settings.direct
        session.verify = str(settings.certificate) if settings.certificate else True
        if settings.client_certificate and settings.client_key:
            session.cert = (str(settings.client_certificate), str(settings.client_key))
        session.headers.clear()
        session.headers.update(self._credentials.headers)
        session.headers["content-type"] = "application/x-protobuf"
        if settings.gzip:
            session.headers["content-encoding"] = "gzip"
        return session

    def _post(self, session: requests.Session, body: bytes) -> Result:
        data = gzip.compress(body, 1) if self._settings.gzip else body
        try:
            with session.post(
                self._settings.url,
                data=data,
                timeout=self._settings.timeout,
                stream=True,
                allow_redirects=False,
            ) as response:
                content = response.raw.read(_LARGEST_RESPONSE, decode_content=True)
        except Exception as error:
            # urllib3 and ssl raise through requests in many ways; all mean: no response.
            return Result(Outcome.UNAVAILABLE, UNREACHABLE, f"{type(error).__name__}: {error}")
        status = response.status_code
        if status == requests.codes.ok:
            return accepted(content)
        message = f"HTTP status {status}"
        if status == _REFUSED:
            return Result(Outcome.REFUSED, str(status), message)
        delay = _retry_after(response.headers.get("retry-after", ""))
        return Result(Outcome.UNAVAILABLE, str(status), message, retry_after=delay)


def _retry_after(value: str) -> float:
    """Seconds of a Retry-After header: a number, or a date (RFC 9110 10.2.3)."""
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return 0.0


def _cancelled() -> Result:
    return Result(Outcome.UNAVAILABLE, CANCELLED, "the client is closed")
