"""Misbehaving providers: each response ends in time, and its trace contains the reason."""

import json
import time
from collections.abc import Iterator

import pytest

from stack.waiting import poll_until
from tests.elapsed import takes_at_most
from tests.hostile.outcome import Group, attack, ends, group, nothing_is_active
from tests.hostile.provider import (
    BOMB,
    CHUNKED,
    DONE,
    HELLO,
    Behaviour,
    Provider,
    body,
    byte_by_byte,
    chunk,
    end,
    endless,
    provider,
    raw,
    stream,
    usage,
    zipped,
)
from tests.hostile.service import Service, read_answer

_SILENCE_SECONDS = 0.5
# Two timeouts, and the work of the longest response.
_ANSWER_SECONDS = 2 * _SILENCE_SECONDS + 2.0
_DEEP = b"[" * 20_000

_FAILS: dict[str, Behaviour] = {
    "closes": raw(b""),
    "resets": raw(b"", reset=True),
    "never-answers": raw(b"", hang=True),
    "garbage": raw(b"\x00\xff no protocol at all \xfe\r\n\r\n"),
    "http-0.9": raw(b"Hello"),
    "http-9.9": raw(b"HTTP/9.9 200 OK\r\n\r\n"),
    "status-999": raw(b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n"),
    "status-42": raw(b"HTTP/1.1 42 Odd\r\ncontent-length: 0\r\n\r\n"),
    "only-continues": endless(b"HTTP/1.1 100 Continue\r\n\r\n", head=b"", pause=0.01),
    "endless-headers": endless(b"a: b\r\n", head=b"HTTP/1.1 200 OK\r\n"),
    "half-a-head": raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/ev", hang=True),
    "head-only": raw(CHUNKED, hang=True),
    "html-502": body("502 Bad Gateway", "text/html", b"<html><h1>502</h1></html>"),
    "html-200": body("200 OK", "text/html", b"<html><h1>Sign in</h1></html>"),
    "json-200": body("200 OK", "application/json", b'{"choices":[]}'),
    "nothing-200": body("200 OK", "text/event-stream", b""),
    "redirect": body("302 Found", "text/plain", b"", "location: /v1/chat/completions"),
    "redirect-307": body("307 Moved", "text/plain", b"", "location: file:///etc/passwd"),
    "redirect-308": body("308 Moved", "text/plain", b"", "location: http://[/"),
    "gzip-garbage": raw(zipped(b"\x1f\x8b\xff\xff not gzip")),
    "gzip-bomb": raw(BOMB, hang=True),
    "bad-chunk": raw(CHUNKED + b"zz\r\n"),
    "negative-chunk": raw(CHUNKED + b"-5\r\nhello\r\n"),
    "cut-in-a-chunk": raw(CHUNKED + b"ffff\r\n" + HELLO),
    "cut-in-an-event": stream(HELLO[:-20]),
    "reset-in-the-middle": raw(CHUNKED + b"%x\r\n%s\r\n" % (len(HELLO), HELLO), reset=True),
    "stalls-in-the-middle": raw(CHUNKED + b"%x\r\n%s\r\n" % (len(HELLO), HELLO), hang=True),
    "too-short": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n" + HELLO),
    "no-end": stream(HELLO),
    "not-utf-8": stream(b"data: \xff\xfe\n\n"),
    "not-json": stream(b"data: Hello\n\n"),
    "a-number": stream(b"data: 42\n\n"),
    "deep": stream(b"data: " + _DEEP + b"\n\n"),
    "error-event": stream(HELLO, b'data: {"error":{"message":"no","code":{"a":[1]}}}\n\n'),
    "error-is-text": stream(b'data: {"error":"overloaded"}\n\n'),
    "error-is-deep": body("400 Bad Request", "application/json", b'{"error":' + _DEEP),
    "error-code-is-a-list": body(
        "400 Bad Request", "application/json", b'{"error":{"message":null,"code":[1,{}]}}'
    ),
    "error-is-huge": body("500 Oops", "text/plain", b"x" * 5_000_000),
    "choices-null": stream(chunk({}, choices=None)),
    "choices-text": stream(chunk({}, choices="x")),
    "delta-null": stream(chunk(None)),
    "retry-after-for-ever": body(
        "429 Slow down", "application/json", b"{}", "retry-after: 99999999999999999999"
    ),
    "retry-after-in-february": body(
        "429 Slow down", "application/json", b"{}", "retry-after: Fri, 31 Feb 2026 00:00:00 GMT"
    ),
}  # fmt: skip

# Unusual, but valid responses.
_ANSWERS: dict[str, Behaviour] = {
    "byte-order-mark": stream(b"\xef\xbb\xbf" + HELLO, end(), DONE),
    "a-megabyte-at-once": stream(chunk({"content": "x" * 1_000_000}), end(), DONE),
    "a-thousand-choices": stream(
        *(chunk({}, choices=[{"index": n, "delta": {"content": "x"}}]) for n in range(1_000)),
        end(),
        DONE,
    ),
    "nul-and-surrogates": stream(
        chunk({"content": "a\x00b\ud800c\ufffe"}), end(), DONE
    ),
    "odd-id-and-model": stream(
        chunk({"content": "x"}, id={"a": [1]}, model=["m"], created="now"), end(), DONE
    ),
    "huge-id-and-model": stream(
        chunk({"content": "x"}, id="i" * 500_000, model="m" * 500_000), end(), DONE
    ),
    "odd-finish-reason": stream(HELLO, end({"reason": "stop"}), DONE),
    "huge-finish-reason": stream(HELLO, end("s" * 500_000), DONE),
    "usage-beyond-64-bits": stream(
        HELLO,
        end(),
        usage({"prompt_tokens": 10**30, "completion_tokens": 2**63, "total_tokens": 10**30}),
        DONE,
    ),
    "negative-usage": stream(
        HELLO, end(), usage({"prompt_tokens": -5, "completion_tokens": -1}), DONE
    ),
    "usage-is-nan": stream(
        HELLO, end(), usage({"prompt_tokens": float("nan"), "completion_tokens": 1e400}), DONE
    ),
    "usage-is-text": stream(HELLO, end(), usage("a lot"), DONE),
    "usage-as-text": stream(
        HELLO, end(), usage({"prompt_tokens": "11", "completion_tokens": "5"}), DONE
    ),
    "more-after-the-end": stream(HELLO, end(), DONE, HELLO, DONE),
    "everything-in-bytes": byte_by_byte(HELLO, end(), DONE),
}  # fmt: skip

# Without an end: the client disconnects.
_ENDLESS: dict[str, Behaviour] = {
    "endless-text": endless(chunk({"content": "x" * 1_000})),
    "endless-comments": endless(b": ping\n\n", pause=0.001),
    "endless-empty-deltas": endless(chunk({"content": ""}), pause=0.001),
    "endless-reasoning": endless(chunk({"reasoning_content": "hm"}), pause=0.001),
    "endless-line": endless(b"data: " + b"x" * 60_000),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Provider]:
    with provider({**_FAILS, **_ANSWERS, **_ENDLESS}) as one:
        yield one


@pytest.fixture(scope="module")
def chats(upstream: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with group(
        tmp_path_factory.mktemp("providers"),
        OPENAI_TIMEOUT_SECONDS=str(_SILENCE_SECONDS),
        ANSWER_STALL_SECONDS=str(_SILENCE_SECONDS),
        **upstream.environ,
    ) as one:
        yield one
        service = one.service()
        nothing_is_active(service)
        # It ends during an endless response.
        with service.connect() as client:
            client.sendall(_request("endless-text", stream=True))
            client.recv(1)
            ends(service)


@pytest.fixture
def service(chats: Group) -> Service:
    return chats.service()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", _FAILS)
def test_failing_provider_is_reported_in_time(service: Service, model: str, streamed: bool) -> None:
    with attack(service) as it, service.connect() as client:
        with takes_at_most(_ANSWER_SECONDS, factor=1.0):
            client.sendall(_request(model, streamed, it.header))
            answer = read_answer(client)
        assert answer.trace_id == it.trace_id
        error = _error(answer.body)
        assert error["trace_id"] == it.trace_id
        assert answer.status >= 400 or streamed
        it.leaves_span(gen_ai__request__model=model, error__type=error["code"])
        it.leaves_log("answer", trace_id=it.trace_id, error__type=error["code"])


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", _ANSWERS)
def test_odd_answer_ends_and_is_recorded(service: Service, model: str, streamed: bool) -> None:
    with attack(service) as it, service.connect() as client:
        with takes_at_most(_ANSWER_SECONDS, factor=1.0):
            client.sendall(_request(model, streamed, it.header))
            answer = read_answer(client)
        assert answer.trace_id == it.trace_id
        assert answer.status != 500
        assert b"internal_error" not in answer.body
        it.leaves_span(gen_ai__request__model=model)
        it.leaves_log("answer", trace_id=it.trace_id)


@pytest.mark.parametrize("model", _ENDLESS)
def test_endless_answer_ends_with_its_client(
    service: Service, upstream: Provider, model: str
) -> None:
    with attack(service) as it:
        with service.connect() as client:
            client.sendall(_request(model, True, it.header))
            time.sleep(0.3)
        it.leaves_span(gen_ai__request__model=model)
        it.leaves_log("answer", trace_id=it.trace_id)
        poll_until(lambda: model in upstream.left, "the provider to be left")


def _request(model: str, stream: bool, header: bytes = b"") -> bytes:
    content = json.dumps(
        {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    ).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        + header
        + b"content-length: %d\r\n\r\n" % len(content)
        + content
    )


def _error(answer: bytes) -> dict[str, str]:
    """Return the error object, of a whole response or of a stream's last event."""
    last = answer.strip().split(b"\n\n")[-1].removeprefix(b"data: ")
    error: dict[str, str] = json.loads(last)["error"]
    return error
