"""OTLP over gRPC.

Calls are made on threads of our own: gRPC starts a thread for each asynchronous call that no other
one overlaps, which costs as much as the call.
"""

import threading
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

import grpc

from .client import METHODS, Outcome, Result, accepted, cancelled, failed, finished
from .credentials import Credentials
from .settings import EndpointSettings
from .wire import fields, message_field, number_field
from .workers import Workers

# The receiver cannot read the batch, however often it is sent. Everything else can pass: also
# UNAUTHENTICATED, PERMISSION_DENIED and UNIMPLEMENTED, which a proxy returns during a rollout.
_REFUSED: Final = grpc.StatusCode.INVALID_ARGUMENT
# gRPC itself waits up to two minutes before it connects again, and 30 s before it resolves the
# name again; a receiver that has come back, maybe with another address, is to be found at once.
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # Signals do not share connections: each client has a channel of its own.
    ("grpc.use_local_subchannel_pool", 1),
)
# A `google.rpc.Status`, and its field `details`.
_STATUS_DETAILS: Final = "grpc-status-details-bin"
_DETAILS: Final = 3


class GrpcClient:
    """Calls one signal's export method with encoded requests."""

    def __init__(self, settings: EndpointSettings) -> None:
        self.timeout = settings.timeout
        self._settings = settings
        self._credentials = Credentials(settings)
        self._compression = grpc.Compression.Gzip if settings.gzip else None
        self.lock = threading.RLock()
        self._channel: grpc.Channel | None = None
        self._call: Any = None
        self._workers = Workers(f"otlp-grpc-{settings.signal}")
        self._closed = False

    def send(self, body: bytes) -> Future[Result]:
        """Start a call; see `Client`."""
        future: Future[Result] = Future()
        try:
            self._workers.run(partial(self._export, self._connected(), body, future))
        except Exception as error:
            # A closed channel, a certificate that is just being replaced, or too many threads.
            return finished(cancelled() if self._closed else failed(error))
        return future

    def close(self) -> None:
        """Cancel calls in progress."""
        with self.lock:
            self._closed = True
            if self._channel is not None:
                self._channel.close()
        self._workers.close()

    def _connected(self) -> Any:
        with self.lock:
            if self._closed:
                raise ValueError("closed")
            if self._credentials.changed() and self._channel is not None and self._settings.tls:
                # Calls under way may go on. (Headers go with each call.)
                close = threading.Timer(self.timeout, self._channel.close)
                close.daemon = True
                close.start()
                self._channel = None
            if self._channel is None:
                self._channel = self._open()
                self._call = self._channel.unary_unary(METHODS[self._settings.signal])
            return self._call

    def _export(self, call: Any, body: bytes, future: Future[Result]) -> None:
        try:
            response = call(
                body,
                timeout=self._settings.timeout,
                metadata=self._credentials.headers,
                compression=self._compression,
            )
            result = accepted(response)
        except Exception as error:
            result = self._status(error)
        future.set_result(result)

    def _status(self, error: Exception) -> Result:
        if self._closed:
            # gRPC's status is the same as that of a call that the receiver cancelled.
            return cancelled()
        try:
            return _status(error) if isinstance(error, grpc.RpcError) else failed(error)
        except Exception as unreadable:
            return failed(unreadable)

    def _open(self) -> grpc.Channel:
        settings = self._settings
        options = (*_OPTIONS, ("grpc.enable_http_proxy", 0 if settings.direct else 1))
        if not settings.tls:
            return grpc.insecure_channel(settings.target, options)
        read = {
            name: path.read_bytes() if path else None
            for name, path in (
                ("root_certificates", settings.certificate),
                ("private_key", settings.client_key),
                ("certificate_chain", settings.client_certificate),
            )
        }
        return grpc.secure_channel(settings.target, grpc.ssl_channel_credentials(**read), options)


def _status(error: Any) -> Result:
    code, message = error.code(), error.details() or ""
    if code is _REFUSED:
        return Result(Outcome.REFUSED, code.name, message)
    return Result(Outcome.UNAVAILABLE, code.name, message, retry_after=_retry_after(error))


def _retry_after(error: Any) -> float:
    """Seconds of the `google.rpc.RetryInfo` in the status's details; 0 without one."""
    for name, value in error.trailing_metadata() or ():
        if name == _STATUS_DETAILS:
            try:
                return max(map(_retry_delay, fields(value).get(_DETAILS, [])), default=0.0)
            except (ValueError, IndexError):
                return 0.0
    return 0.0


def _retry_delay(detail: int | bytes) -> float:
    """Seconds of a `google.protobuf.Any`, where it holds a RetryInfo."""
    if not isinstance(detail, bytes):
        return 0.0
    found = fields(detail)
    if not message_field(found, 1).endswith(b"/google.rpc.RetryInfo"):
        return 0.0
    delay = fields(message_field(fields(message_field(found, 2)), 1))
    return number_field(delay, 1) + number_field(delay, 2) / 1e9
