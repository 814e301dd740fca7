"""Assertions after every attack: health, the attack's records, and shutdown in time."""

import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chatscope import names
from stack.waiting import WaitError, poll_until
from tests.elapsed import takes_at_most
from tests.ending import assert_ended_in_time
from tests.hostile.service import START_SECONDS, Service, started
from tests.receiver import ReceivedLog, ReceivedSpan

HEALTH_SECONDS = 1.0
# Not a promise: spans and log records are exported every 20 ms here; only a failing test waits this
# long.
RECORD_SECONDS = 30.0
_ACTIVE = (
    names.HTTP_ACTIVE_REQUESTS.name,
    names.ANSWERS_ACTIVE.name,
    names.SOCKET_CONNECTIONS.name,
)
_ERROR = 17  # the lowest severity number that counts as an error in OTLP


class Attack:
    """One attack: the trace that it is sent in, and the records that it must leave."""

    def __init__(self, service: Service, seconds: float = RECORD_SECONDS) -> None:
        """`seconds`: maximum wait for its records."""
        self.service = service
        self._seconds = seconds
        self.trace_id = uuid.uuid4().hex
        self._logs = len(service.receiver.log_records)
        self._spans = len(service.receiver.spans)
        self._wanted: list[tuple[str, Callable[[], object]]] = []

    @property
    def traceparent(self) -> str:
        """Return the header's value."""
        return f"00-{self.trace_id}-00f067aa0ba902b7-01"

    @property
    def header(self) -> bytes:
        """Return the whole header line."""
        return f"traceparent: {self.traceparent}\r\n".encode()

    @property
    def logs(self) -> list[ReceivedLog]:
        """Return all log records since the attack started."""
        return self.service.receiver.log_records[self._logs :]

    @property
    def spans(self) -> list[ReceivedSpan]:
        """Return all spans since the attack started."""
        return self.service.receiver.spans[self._spans :]

    def leaves_span(self, *, trace_id: str | None = None, **attributes: Any) -> None:
        """Require a span of its trace with these attributes (`__` is a dot)."""
        wanted = _dotted(attributes)
        trace = self.trace_id if trace_id is None else trace_id

        def found() -> bool:
            return any(
                span.trace_id == trace and wanted.items() <= span.attributes.items()
                for span in self.spans
            )

        self._wanted.append((f"a span of trace {trace} with {wanted}", found))

    def leaves_log(
        self, body: str | None = None, *, trace_id: str | None = None, **attributes: Any
    ) -> None:
        """Require a log record with this body and these attributes, of any trace unless given."""
        wanted = _dotted(attributes)

        def found() -> bool:
            return any(
                (body is None or body in log.body)
                and (trace_id is None or log.trace_id == trace_id)
                and wanted.items() <= log.attributes.items()
                for log in self.logs
            )

        of_trace = "" if trace_id is None else f" of trace {trace_id}"
        self._wanted.append((f"a log record {body!r}{of_trace} with {wanted}", found))

    def leaves(self, description: str, found: Callable[[], object]) -> None:
        """Require any other record."""
        self._wanted.append((description, found))

    def check(self) -> None:
        """Fail unless the service is healthy and all records have arrived."""
        healthy(self.service)
        for description, found in self._wanted:
            try:
                poll_until(found, description, self._seconds, interval=0.02)
            except WaitError as error:
                raise AssertionError(f"{error}\n{self._seen()}") from None

    def _seen(self) -> str:
        logs = [f"log {log.trace_id} {log.body[:200]!r} {_short(log.attributes)}"
                for log in self.logs]  # fmt: skip
        spans = [f"span {span.trace_id} {span.name!r} {_short(span.attributes)}"
                 for span in self.spans]  # fmt: skip
        return "\n".join(["received since:", *logs[-20:], *spans[-20:]])


@contextmanager
def attack(service: Service, seconds: float = RECORD_SECONDS) -> Iterator[Attack]:
    """Check after an attack that the service is healthy and the required records exist."""
    one = Attack(service, seconds)
    yield one
    one.check()


def healthy(service: Service) -> None:
    """Fail unless `/healthz` responds within a second."""
    with takes_at_most(HEALTH_SECONDS, factor=1.0):
        try:
            status = service.get("/healthz").status
        except OSError as error:
            raise AssertionError(f"/healthz: {error!r}; exit {service.process.poll()}") from None
    assert status == 200


def ends(service: Service, number: signal.Signals = signal.SIGTERM, exit_code: int = 0) -> None:
    """Fail unless the signal ends the process within its promised time, with this exit code."""
    begun = time.monotonic()
    service.process.send_signal(number)
    code = service.process.wait(START_SECONDS)
    grace = float(service.environ["SHUTDOWN_GRACE_SECONDS"])
    assert_ended_in_time(code, time.monotonic() - begun, grace, exit_code)


_ABOUT_ERRORS = ("error.type", "error.message", "exception.stacktrace")


def no_errors(service: Service) -> None:
    """Fail if the service recorded an error: a client's mistake is not an error of the service."""
    found = [
        (
            log.body,
            *map(log.attributes.get, ("error.type", "error.message", "exception.stacktrace")),
        )
        for log in service.receiver.log_records
        if log.record.severity_number >= _ERROR
    ]
    assert not found, found[:3]
    assert "Traceback" not in service.text()


def nothing_is_active(service: Service) -> None:
    """Fail unless the metrics of running requests and connections return to 0."""
    receiver = service.receiver

    def idle() -> bool:
        gauges = [receiver.last(name) for name in _ACTIVE]
        return any(gauges) and all(value == 0 for gauge in gauges for value in gauge.values())

    poll_until(idle, f"{_ACTIVE} to be 0", RECORD_SECONDS, interval=0.1)


class Group:
    """One service for many attacks, replaced after an attack that broke it."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._environ = environ
        self._running: Any = None
        self._service: Service | None = None

    def service(self) -> Service:
        """Return the service; start a new one if it is not healthy."""
        if self._service is not None:
            try:
                healthy(self._service)
            except AssertionError:
                self.kill()
            else:
                return self._service
        self._running = started(self._directory, **self._environ)
        service: Service = self._running.__enter__()
        self._service = service
        return service

    def kill(self) -> None:
        """Kill the service in any state."""
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = self._service = None


@contextmanager
def group(directory: Path, **environ: str) -> Iterator[Group]:
    """Provide a service for many attacks; kill it at the end unless a test ended it."""
    one = Group(directory, environ)
    try:
        yield one
    finally:
        one.kill()


def _dotted(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("__", "."): value for key, value in attributes.items()}


def _short(attributes: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in attributes.items() if not key.startswith("code.")}
    return str(shown)[:300]
