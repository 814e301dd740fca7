"""The same attacks on a service of the real stack: each record is found in Loki and Tempo."""

import os
import signal
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from stack.secrets import telemetry_variables
from stack.waiting import poll_until
from tests.hostile.outcome import Attack, ends, healthy
from tests.hostile.provider import HELLO, Provider, end, provider, raw, stream
from tests.hostile.service import Service, read_all, started
from tests.running import PATIENCE_SECONDS, Stack

pytestmark = pytest.mark.stack

_CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
_UPGRADE = (
    b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_MODELS = {
    "garbage": raw(b"\x00\xff no protocol at all \xfe\r\n\r\n"),
    "odd": stream(HELLO, end({"reason": "\ud800"}, id={"a": [10**30]})),
}


@dataclass(frozen=True)
class Aimed:
    """A service of the stack, and its name in the backends."""

    service: Service
    name: str


def _get(path: bytes, more: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\nhost: x\r\n@" + more + b"\r\n"


def _post(body: bytes, more: bytes = b"") -> bytes:
    return _CHAT + b"@" + more + b"content-length: %d\r\n\r\n" % len(body) + body


# The sent bytes, and whether they become a request with a trace.
_ATTACKS: Mapping[str, tuple[bytes, bool]] = {
    "an unknown path": (_get(b"/favicon.ico"), True),
    "a wrong method": (_get(b"/", method=b"PROPFIND"), True),
    "an escape that is not UTF-8": (_get(b"/%ff%00%ed%a0%80"), True),
    "a very long path": (_get(b"/" + b"a" * 60_000), True),
    "a huge baggage": (_get(b"/v1/models", b"baggage: " + b"k=v," * 9_000 + b"\r\n"), True),
    "a user agent that is not UTF-8": (_get(b"/v1/models", b"user-agent: \xff\xfe\r\n"), True),
    "no JSON": (_post(b"\xff"), True),
    "an upgrade to h2c": (_post(b"{}", b"connection: upgrade\r\nupgrade: h2c\r\n"), True),
    "a handshake of a stranger": (_get(b"/ws/chat", b"origin: http://[\r\n" + _UPGRADE), True),
    "a handshake of an unknown path": (_get(b"/ws/nothing", _UPGRADE), True),
    "garbage": (b"\x16\x03\x01 no HTTP\r\n\r\n", False),
    "a chunk without a size": (_CHAT + b"transfer-encoding: chunked\r\n\r\nzz\r\n", False),
    "a provider that sends garbage": (
        _post(b'{"model":"garbage","messages":[{"role":"user","content":"hi"}]}'),
        True,
    ),
    "a provider that sends odd values": (
        _post(b'{"model":"odd","messages":[{"role":"user","content":"\\u0000hi"}]}'),
        True,
    ),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Provider]:
    with provider(_MODELS) as one:
        yield one


@pytest.fixture(scope="module")
def aimed(
    stack: Stack, upstream: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Aimed]:
    name = f"hostile-{uuid.uuid4().hex[:8]}"
    directory = tmp_path_factory.mktemp("backends")
    environ = {
        "OTEL_SERVICE_NAME": name,
        **telemetry_variables(stack.facts),
        "TELEMETRY_SPOOL_DIR": str(directory / "spool"),
        **upstream.environ,
    }
    with started(directory, **environ) as service:
        yield Aimed(service, name)
        ends(service)


def test_each_attack_is_found_in_loki_and_tempo(stack: Stack, aimed: Aimed) -> None:
    made = {name: _attack(aimed.service, data) for name, (data, _) in _ATTACKS.items()}
    for name, (_, traced) in _ATTACKS.items():
        if traced:
            _in_tempo(stack, aimed, made[name], name)
            _in_loki(stack, aimed, f'| trace_id="{made[name]}"', name)
    refused = sum(not traced for _, traced in _ATTACKS.values())
    _in_loki(stack, aimed, '|= "request refused" | code="invalid_http"', "garbage", refused)


def test_attack_while_the_collector_is_suspended_is_found_later(stack: Stack, aimed: Aimed) -> None:
    collector = stack.pid("collector")
    if not collector:
        pytest.skip("the Collector is no process of this machine")
    os.kill(collector, signal.SIGSTOP)
    try:
        traces = [_attack(aimed.service, _get(b"/nothing")) for _ in range(5)]
    finally:
        os.kill(collector, signal.SIGCONT)
    for trace in traces:
        _in_tempo(stack, aimed, trace, "while suspended")
        _in_loki(stack, aimed, f'| trace_id="{trace}"', "while suspended")


def _attack(service: Service, data: bytes) -> str:
    it = Attack(service)
    with service.connect() as client:
        client.sendall(data.replace(b"@", it.header, 1))
        assert read_all(client, quiet_seconds=0.1).startswith(b"HTTP/1.1 ")
    healthy(service)
    return it.trace_id


def _in_tempo(stack: Stack, aimed: Aimed, trace: str, what: str) -> None:
    def found() -> bool:
        spans = stack.backends.tempo_trace(trace) or []
        return any(span.resource["service.name"] == aimed.name for span in spans)

    poll_until(found, f"the trace of {what} in Tempo", PATIENCE_SECONDS)


def _in_loki(stack: Stack, aimed: Aimed, more: str, what: str, least: int = 1) -> None:
    query = f'{{service_name="{aimed.name}"}} {more}'
    poll_until(
        lambda: len(stack.backends.loki(query)) >= least,
        f"the log record of {what} in Loki",
        PATIENCE_SECONDS,
    )
