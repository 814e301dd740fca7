"""Invalid requests, one by one: each gets one response, and leaves a record."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pytest

from tests.hostile.outcome import (
    Attack,
    Group,
    attack,
    ends,
    group,
    no_errors,
    nothing_is_active,
)
from tests.hostile.service import Answer, Service, read_answer, read_answers

_BODY = b'{"messages":[{"role":"user","content":"hi"}]}'
_JSON = b"content-type: application/json\r\n"
_LENGTH = b"content-length: %d\r\n" % len(_BODY)
_H2C = (
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
    b"http2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
)
_WEBSOCKET = (
    b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
_PAIRS = b",".join(b"k%d=v" % number for number in range(5_000))
_CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(_BODY), _BODY)


@dataclass(frozen=True)
class Case:
    """The sent bytes (with the traceparent instead of `@`), and the accepted responses."""

    data: bytes
    status: int | tuple[int, ...]
    code: str | None = None

    @property
    def statuses(self) -> tuple[int, ...]:
        """The accepted statuses."""
        return self.status if isinstance(self.status, tuple) else (self.status,)


def _get(path: bytes, more: bytes = b"", method: bytes = b"GET", host: bytes = b"host: x") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\n" + host + b"\r\n@" + more + b"\r\n"


def _chat(more: bytes, body: bytes = _BODY, kind: bytes = _JSON) -> bytes:
    return _CHAT + b"@" + kind + more + b"\r\n" + body


# Requests that reach the application: their record is a span of their own trace.
_SERVED = {
    "an unknown path": Case(_get(b"/favicon.ico"), 404, "not_found"),
    "the root of a scan": Case(_get(b"/../../etc/passwd"), 404, "not_found"),
    "a path that is a host": Case(_get(b"//evil.example/%2f.."), 404, "not_found"),
    "the star": Case(_get(b"*", method=b"OPTIONS"), 404, "not_found"),
    "a fragment": Case(_get(b"/v1/models#x"), 200),
    "an absolute target": Case(_get(b"http://evil.example/v1/models"), 200),
    "a slash too many": Case(_get(b"/v1/models/"), (200, 404)),
    "an endpoint that is not served": Case(
        b"POST /v1/files HTTP/1.1\r\nhost: x\r\n@" + _JSON + _LENGTH + b"\r\n" + _BODY,
        404,
        "not_found",
    ),
    "PUT": Case(_get(b"/", method=b"PUT"), 405, "method_not_allowed"),
    "DELETE": Case(_get(b"/v1/models", method=b"DELETE"), 405, "method_not_allowed"),
    "TRACE": Case(_get(b"/", method=b"TRACE"), 405, "method_not_allowed"),
    "PROPFIND": Case(_get(b"/", method=b"PROPFIND"), 405, "method_not_allowed"),
    "a GET of completions": Case(_get(b"/v1/chat/completions"), 405, "method_not_allowed"),
    "OPTIONS": Case(_get(b"/", method=b"OPTIONS"), (204, 405)),
    "HEAD": Case(_get(b"/", method=b"HEAD"), 200),
    "HEAD of nothing": Case(_get(b"/nothing", method=b"HEAD"), 404),
    "HEAD of completions": Case(_get(b"/v1/chat/completions", method=b"HEAD"), 405),
    "a method that a header overrides": Case(
        _get(b"/v1/models", b"x-http-method-override: DELETE\r\n"), 200
    ),
    "a preflight of a stranger": Case(
        _get(
            b"/v1/chat/completions",
            b"origin: http://evil.example\r\naccess-control-request-method: POST\r\n",
            b"OPTIONS",
        ),
        (400, 403),
    ),
    "a broken Origin": Case(_get(b"/v1/models", b"origin: http://[\r\n"), (200, 403)),
    "HTTP/1.0": Case(b"GET /v1/models HTTP/1.0\r\n@\r\n", 200),
    "HTTP/1.0 with keep-alive": Case(
        b"GET /v1/models HTTP/1.0\r\n@connection: keep-alive\r\n\r\n", 200
    ),
    "an invalid escape": Case(_get(b"/v1/models/%zz%f"), 404, "model_not_found"),
    "an escape that is not UTF-8": Case(_get(b"/v1/models/%ff%fe"), 404, "model_not_found"),
    "an escaped surrogate": Case(_get(b"/%ed%a0%80"), 404, "not_found"),
    "escaped controls": Case(_get(b"/%00%0d%0aset-cookie:a%1b%5b31m"), 404, "not_found"),
    "an escaped overlong slash": Case(_get(b"/..%c0%af..%c0%af"), 404, "not_found"),
    "a very long path": Case(_get(b"/" + b"a" * 60_000), 404, "not_found"),
    "a very long query": Case(_get(b"/v1/models?" + b"a=%ff&" * 10_000), 200),
    "a deep path": Case(_get(b"/" + b"a/" * 25_000), 404, "not_found"),
    "five thousand headers": Case(
        _get(b"/v1/models", b"".join(b"h%d: v\r\n" % number for number in range(5_000))), 200
    ),
    "a user agent that is not UTF-8": Case(_get(b"/v1/models", b"user-agent: \xff\xfe\r\n"), 200),
    "a forwarded stranger": Case(
        _get(b"/v1/models", b"x-forwarded-for: " + b"\xff" * 30_000 + b"\r\n"), 200
    ),
    "a forwarded scheme": Case(_get(b"/v1/models", b"x-forwarded-proto: gopher\r\n"), 200),
    "an impossible range": Case(_get(b"/", b"range: bytes=0-1,2-3,99999999999-\r\n"), 200),
    "a condition": Case(_get(b"/", b"if-none-match: *\r\nif-modified-since: x\r\n"), 200),
    "an upgrade to h2c": Case(_chat(_H2C + _LENGTH), 200),
    "an upgrade to h2c, chunked": Case(
        _chat(_H2C + b"transfer-encoding: chunked\r\n", _CHUNKED), 200
    ),
    "an upgrade to an unknown protocol": Case(
        _chat(b"connection: upgrade\r\nupgrade: foo/7\r\n" + _LENGTH), 200
    ),
    "an upgrade to TLS": Case(
        _get(b"/v1/models", b"connection: upgrade\r\nupgrade: TLS/1.2\r\n"), 200
    ),
    "an upgrade to a WebSocket with a body": Case(_chat(_WEBSOCKET + _LENGTH), (200, 405)),
    "an expectation": Case(_chat(b"expect: 200-ok\r\n" + _LENGTH), 200),
    "a completion without anything": Case(
        _CHAT + b"@\r\n", 415, "unsupported_media_type"
    ),
    "a completion without a length": Case(_chat(b"", b""), 400, "invalid_json"),
    "a form": Case(
        _chat(_LENGTH, kind=b"content-type: multipart/form-data; boundary=x\r\n"),
        415,
        "unsupported_media_type",
    ),
    "a media type that is not UTF-8": Case(
        _chat(_LENGTH, kind=b"content-type: \xff/\xfe\r\n"), 415, "unsupported_media_type"
    ),
    "a compressed body": Case(
        _chat(b"content-encoding: gzip\r\n" + _LENGTH), 415, "unsupported_content_encoding"
    ),
    "a body of 2**63 - 1 bytes": Case(
        _chat(b"content-length: 9223372036854775807\r\n", b""), 413, "request_too_large"
    ),
    "a body with a byte order mark": Case(
        _chat(b"content-length: 48\r\n", b"\xef\xbb\xbf" + _BODY), 400, "invalid_json"
    ),
    "a body in UTF-16": Case(
        _chat(b"content-length: %d\r\n" % (2 * len(_BODY)), _BODY.decode().encode("utf-16-le")),
        400,
        "invalid_json",
    ),
    "a body of open brackets": Case(
        _chat(b"content-length: 100000\r\n", b"[" * 100_000), 400, "invalid_json"
    ),
    "a body with a long number": Case(
        _chat(b"content-length: 50000\r\n", b"9" * 50_000), 400, None
    ),
    "a broken traceparent": Case(
        _get(b"/v1/models").replace(b"@", b"traceparent: zz\r\n"), 200
    ),
    "a traceparent of zeros": Case(
        _get(b"/v1/models").replace(
            b"@", b"traceparent: 00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01\r\n"
        ),
        200,
    ),
    "a traceparent of a future version": Case(
        _get(b"/v1/models").replace(
            b"@", b"traceparent: ff-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01-x\r\n"
        ),
        200,
    ),
    "a huge traceparent": Case(
        _get(b"/v1/models").replace(b"@", b"traceparent: 00-" + b"a" * 50_000 + b"\r\n"), 200
    ),
    "two traceparents": Case(
        _get(b"/v1/models").replace(b"@", b"traceparent: 00-\xff\r\ntraceparent: x\r\n"), 200
    ),
    "a huge tracestate": Case(
        _get(b"/v1/models", b"tracestate: " + _PAIRS + b"\r\n"), 200
    ),
    "a huge baggage": Case(
        _get(b"/v1/models", b"baggage: " + _PAIRS + b"\r\n"), 200
    ),
    "a broken baggage": Case(_get(b"/v1/models", b"baggage: \xff=\xfe;;;,,,=%zz\r\n"), 200),
}  # fmt: skip

# Bytes that never become a request: their record is a log record without a trace.
_REFUSED = {
    "CONNECT with a path": Case(_get(b"/", method=b"CONNECT"), (400, 405)),
    "CONNECT with an authority": Case(_get(b"evil.example:443", method=b"CONNECT"), 400),
    "a method in lower case": Case(_get(b"/", method=b"get"), 400),
    "a method that is garbage": Case(_get(b"/", method=b"G\xffT"), 400),
    "a method that nobody knows": Case(_get(b"/", method=b"BREW"), 400),
    "the preface of HTTP/2": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/9.9": Case(b"GET / HTTP/9.9\r\nhost: x\r\n@\r\n", 400),
    "a TLS hello": Case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, 400),
    "bare line feeds": Case(b"GET / HTTP/1.1\nhost: x\n\n", 400),
    "bare carriage returns": Case(b"GET / HTTP/1.1\rhost: x\r\r", 400),
    "a target without a slash": Case(_get(b"v1/models"), 400),
    "a target that is not ASCII": Case(_get(b"/\xff\xfe"), 400),
    "a broken absolute target": Case(_get(b"http://[/v1/models"), 400),
    "a header without a name": Case(_get(b"/", b": v\r\n"), 400),
    "a header with a blank in its name": Case(_get(b"/", b"a b: v\r\n"), 400),
    "a folded header": Case(_get(b"/", b"a: v\r\n  w\r\n"), 400),
    "a header with a NUL": Case(_get(b"/", b"a: \x00\r\n"), 400),
    "no Host": Case(b"GET / HTTP/1.1\r\n@\r\n", 400),
    "two Hosts": Case(_get(b"/", host=b"host: x\r\nhost: y"), 400),
    "a Host with an open bracket": Case(_get(b"/v1/models", host=b"host: ["), 400),
    "a Host with a port that is no number": Case(_get(b"/v1/models", host=b"host: x:abc"), 400),
    "a Host with a path": Case(_get(b"/v1/models", host=b"host: a/b?c#d"), 400),
    "a Host that is not ASCII": Case(_get(b"/v1/models", host=b"host: \xff\xfe"), 400),
    "two lengths": Case(_chat(_LENGTH + b"content-length: 3\r\n"), 400),
    "the same length twice": Case(_chat(_LENGTH + _LENGTH), 400),
    "a list of lengths": Case(_chat(b"content-length: 45, 45\r\n"), 400),
    "a negative length": Case(_chat(b"content-length: -1\r\n"), 400),
    "a length with a plus": Case(_chat(b"content-length: +45\r\n"), 400),
    "a length beyond 64 bits": Case(_chat(b"content-length: 99999999999999999999999\r\n"), 400),
    "a length and chunks": Case(
        _chat(_LENGTH + b"transfer-encoding: chunked\r\n", b"0\r\n\r\n"), 400
    ),
    "chunked twice": Case(
        _chat(b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n"), 400
    ),
    "an unknown transfer coding": Case(
        _chat(b"transfer-encoding: xchunked\r\n", b"0\r\n\r\n"), 400
    ),
    "a chunk without a size": Case(_chat(b"transfer-encoding: chunked\r\n", b"zz\r\n\r\n"), 400),
    "a chunk beyond 64 bits": Case(
        _chat(b"transfer-encoding: chunked\r\n", b"ffffffffffffffff1\r\n\r\n"), 400
    ),
    "a path beyond the limit": Case(_get(b"/" + b"a" * 70_000), 431, "headers_too_large"),
    "headers beyond the limit": Case(
        _get(b"/", b"a: " + b"a" * 70_000 + b"\r\n"), 431, "headers_too_large"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with group(tmp_path_factory.mktemp("requests")) as one:
        yield one
        no_errors(one.service())
        nothing_is_active(one.service())
        ends(one.service())


@pytest.fixture
def service(requests: Group) -> Service:
    return requests.service()


def _send(service: Service, it: Attack, case: Case) -> Answer:
    method = case.data.partition(b" ")[0].decode("latin-1")
    with service.connect() as client:
        client.sendall(case.data.replace(b"@", it.header, 1))
        return read_answer(client, method)


@pytest.mark.parametrize("case", _SERVED.values(), ids=_SERVED)
def test_strange_request_is_answered_and_recorded(service: Service, case: Case) -> None:
    with attack(service) as it:
        answer = _send(service, it, case)
        assert answer.status in case.statuses, answer
        trace_id = it.trace_id if b"@" in case.data else answer.trace_id
        assert answer.trace_id == trace_id
        if case.code:
            assert json.loads(answer.body)["error"]["code"] == case.code
        it.leaves_span(trace_id=trace_id, http__response__status_code=answer.status)
        it.leaves_log(trace_id=trace_id, http__response__status_code=answer.status)


@pytest.mark.parametrize("case", _REFUSED.values(), ids=_REFUSED)
def test_bytes_that_are_no_request_are_refused_and_recorded(service: Service, case: Case) -> None:
    with attack(service) as it:
        answer = _send(service, it, case)
        assert answer.status in case.statuses, answer
        error = json.loads(answer.body)["error"]
        assert error["code"] == case.code or case.code is None
        assert error["trace_id"] == answer.trace_id
        it.leaves_log("request refused", code=error["code"], trace_id=answer.trace_id)


@pytest.mark.parametrize("upgrade", [_H2C, b"connection: upgrade\r\nupgrade: foo/7\r\n"])
@pytest.mark.parametrize("size", [_LENGTH, b"transfer-encoding: chunked\r\n"])
def test_body_after_an_upgrade_offer_is_never_a_request(
    service: Service, upgrade: bytes, size: bytes
) -> None:
    """RFC 9110, section 7.8: a server that does not switch protocols ignores the offer."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    size = size.replace(b"%d" % len(_BODY), b"%d" % len(smuggled))
    body = smuggled if b"length" in size else b"%x\r\n%s\r\n0\r\n\r\n" % (len(smuggled), smuggled)
    with attack(service) as it, service.connect() as client:
        client.sendall(_CHAT + it.header + _JSON + upgrade + size + b"\r\n")
        time.sleep(0.05)  # else both come in one segment
        client.sendall(body)
        answer = read_answer(client)
        assert (answer.status, answer.trace_id) == (400, it.trace_id)
        assert json.loads(answer.body)["error"]["code"] == "invalid_json"
        client.sendall(_get(b"/v1/models").replace(b"@", b""))
        assert read_answer(client).status == 200
        it.leaves_span(http__response__status_code=400)
        it.check()
        assert not [span for span in it.spans if "smuggled" in str(span.attributes)]


def test_each_pipelined_request_has_a_trace_of_its_own(service: Service) -> None:
    with attack(service) as first, attack(service) as second, service.connect() as client:
        client.sendall(
            _get(b"/v1/models").replace(b"@", first.header)
            + _get(b"/nothing").replace(b"@", second.header)
        )
        answers = list(islice(read_answers(client), 2))
        assert [answer.status for answer in answers] == [200, 404]
        assert [answer.trace_id for answer in answers] == [first.trace_id, second.trace_id]
        first.leaves_span(http__response__status_code=200)
        second.leaves_span(http__response__status_code=404)
        second.leaves_log(trace_id=second.trace_id, http__response__status_code=404)


def test_requests_after_a_large_body_have_traces_of_their_own(service: Service) -> None:
    """A large body pauses the reading, which is resumed in the request's own context."""
    content = json.dumps({"messages": [{"role": "user", "content": "x" * 90_000}] * 5}).encode()
    with attack(service) as first, attack(service) as second, service.connect() as client:
        client.sendall(
            _chat(b"content-length: %d\r\n" % len(content), b"").replace(b"@", first.header)
        )
        client.sendall(content)
        assert read_answer(client).trace_id == first.trace_id
        client.sendall(_get(b"/v1/models").replace(b"@", second.header))
        assert read_answer(client).trace_id == second.trace_id
        first.leaves_span(http__response__status_code=200)
        second.leaves_span(http__response__status_code=200)


@pytest.mark.parametrize("host", [b"[", b"x:abc", b"\xff", b"a b", b"x" * 60_000, b"\x22<script>"])
def test_redirect_survives_any_host(service: Service, host: bytes) -> None:
    """A trailing slash leads to a redirect, which contains the Host."""
    with attack(service) as it:
        answer = service.ask(_get(b"/healthz/", host=b"host: " + host).replace(b"@", it.header))
        assert answer.status in (307, 400)
        if answer.trace_id:
            it.leaves_span(http__response__status_code=answer.status)
        else:
            it.leaves_log("request refused")
