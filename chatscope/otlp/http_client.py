"""OTLP over HTTP with binary Protocol Buffers."""

import queue
import threading
import time
import zlib
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import requests
from requests.utils import get_environ_proxies

from .client import (
    INVALID_RESPONSE,
    TIMEOUT,
    UNREACHABLE,
    Outcome,
    Result,
    accepted,
    cancelled,
    failed,
    finished,
)
from .credentials import Credentials
from .settings import EndpointSettings
from .steps import Steps

# The receiver cannot read the batch, however often it is sent. Everything else can pass: also
# 401, 403 and 404, which a proxy returns during a rollout, and 413 from a smaller limit.
_REFUSED: Final = 400
_LARGEST_RESPONSE: Final = 64 * 1024
_GZIP: Final = 31  # the window bits that mean a gzip header
_CONTENT_TYPE: Final = "application/x-protobuf"
# How long a call may outlast its timeout, which each read from its socket has for itself.
_GRACE: Final = 1.0  # s

# A request, its result, and when it must have ended.
_Task = tuple[bytes, "Future[Result]", float]


class HttpClient:
    """Posts one signal's encoded requests, one at a time, on a thread of its own."""

    def __init__(self, settings: EndpointSettings) -> None:
        self.timeout = settings.timeout
        self._settings = settings
        self._credentials = Credentials(settings)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self.lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._waiting: dict[Future[Result], float] = {}
        self._closed = False

    def send(self, body: bytes) -> Future[Result]:
        """Start a call; see `Client`."""
        future: Future[Result] = Future()
        deadline = time.monotonic() + self.timeout
        with self.lock:
            if self._closed:
                return finished(cancelled())
            try:
                self._start()
            except RuntimeError as error:  # no thread can be started now
                return finished(failed(error))
            self._waiting[future] = deadline
            self._tasks.put((body, future, deadline))
        return future

    def close(self) -> None:
        """End all calls; one in progress continues, and its result is ignored."""
        with self.lock:
            self._closed = True
            self._tasks.put(None)
            waiting = list(self._waiting)
        for future in waiting:
            self._end(future, cancelled())

    def _start(self) -> None:
        """Start the thread, or another one where a call takes longer than its socket's timeouts."""
        now = time.monotonic()
        overdue = [future for future, end in self._waiting.items() if end + _GRACE < now]
        for future in overdue:
            self._end(future, _timed_out())
        if self._thread is not None and not overdue:
            return
        # The old one ends when its call does.
        self._tasks.put(None)
        self._tasks = queue.SimpleQueue()
        name = f"otlp-http-{self._settings.signal}"
        thread = threading.Thread(target=self._run, args=(self._tasks,), name=name, daemon=True)
        thread.start()
        self._thread = thread

    def _run(self, tasks: "queue.SimpleQueue[_Task | None]") -> None:
        session: requests.Session | None = None
        while (task := tasks.get()) is not None:
            body, future, deadline = task
            left = deadline - time.monotonic()
            if left <= 0 or self._closed:
                self._end(future, _timed_out())
                continue
            try:
                if self._credentials.changed() or session is None:
                    session = self._session()
                result = self._post(session, body, left)
            except Exception as error:
                # urllib3 and ssl raise through requests in many ways; all mean: no response.
                message = f"{type(error).__name__}: {error}"
                result = Result(Outcome.UNAVAILABLE, UNREACHABLE, message)
            self._end(future, result)
        if session is not None:
            session.close()

    def _end(self, future: Future[Result], result: Result) -> None:
        """Set a result, once."""
        with self.lock:
            known = self._waiting.pop(future, None) is not None
        if known:
            future.set_result(result)

    def _session(self) -> requests.Session:
        settings = self._settings
        session = requests.Session()
        # Of the environment only the proxies count: ~/.netrc would replace our own headers.
        session.trust_env = False
        session.proxies = {} if settings.direct else get_environ_proxies(settings.url)
        session.verify = str(settings.certificate) if settings.certificate else True
        if settings.client_certificate and settings.client_key:
            session.cert = (str(settings.client_certificate), str(settings.client_key))
        session.headers.clear()
        session.headers.update(self._credentials.headers)
        session.headers["content-type"] = _CONTENT_TYPE
        if settings.gzip:
            session.headers["content-encoding"] = "gzip"
        return session

    def _post(self, session: requests.Session, body: bytes, seconds: float) -> Result:
        data = _compress(body) if self._settings.gzip else body
        with session.post(
            self._settings.url, data=data, timeout=seconds, stream=True, allow_redirects=False
        ) as response:
            content = response.raw.read(_LARGEST_RESPONSE, decode_content=True)
        status = response.status_code
        if 200 <= status < 300:
            kind = response.headers.get("content-type", _CONTENT_TYPE).partition(";")[0].strip()
            if kind.lower() == _CONTENT_TYPE:
                return accepted(content)
            message = f"the response is {kind}, not {_CONTENT_TYPE}"
            return Result(Outcome.UNAVAILABLE, INVALID_RESPONSE, message)
        message = f"HTTP status {status}"
        if status == _REFUSED:
            return Result(Outcome.REFUSED, str(status), message)
        delay = _retry_after(response.headers.get("retry-after", ""))
        return Result(Outcome.UNAVAILABLE, str(status), message, retry_after=delay)


def _compress(body: bytes) -> bytes:
    steps = Steps()
    data = zlib.compress(body, 1, _GZIP)
    steps.pause()  # the last part of the compression, copying, holds the interpreter lock
    return data


def _retry_after(value: str) -> float:
    """Seconds of a Retry-After header: a number, or a date (RFC 9110 10.2.3)."""
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return 0.0


def _timed_out() -> Result:
    return Result(Outcome.UNAVAILABLE, TIMEOUT, "the call took too long")
