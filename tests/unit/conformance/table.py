"""All outcomes of a request: transport, behaviour of the provider and of the client, the client's
result, and the expected telemetry."""

from app.domain.provider import Completed, ProviderError
from chatscope.genai.request import Usage
from tests.unit.conformance.cases import (
    EMPTY,
    EMPTY_UNCOUNTED,
    ONE_PIECE,
    UNCOUNTED,
    WHOLE,
    Case,
    Client,
    Record,
    Tokens,
    Way,
    cancelled,
    failed,
    retry,
)
from tests.unit.conformance.endpoint import end, reasoning, refusal, refuses, streams, text, usage
from tests.unit.conformance.scripts import END, SILENCE, Endpoint, Says

_HTTP, _SSE, _SOCKET = Way.HTTP, Way.SSE, Way.SOCKET
_READS, _LEAVES, _VANISHES, _CANCELS, _STAYS = Client

_UNCOUNTED_END = Completed(finish_reason="stop")
_EMPTY_END = Completed(finish_reason="stop", usage=Usage(3, 0))
_BUSY = ProviderError("rate_limit_exceeded", "slow down", retry_after="7")
_DOWN = ProviderError("server_error", "it failed")
_BUG = ZeroDivisionError("a secret")
_BUG_LINE = ("response failed",)
_LATE_LINE = ("provider failed after its response",)
_HANG_LINE = ("provider does not end its call",)
_CUT_LINE = ("responses cut by the shutdown",)
_RESTART = "503 shutting_down retry-after 2"

# fmt: off
ENDS = [
    Case("it comes to its end", _HTTP, Says("Hel", "lo", END), "200 stop", WHOLE),
    Case("it comes to its end", _SSE, Says("Hel", "lo", END), "200 stop", WHOLE),
    Case("it comes to its end", _SOCKET, Says("Hel", "lo", END), "done stop", WHOLE),
    Case("nobody counted its tokens", _SSE, Says("a", _UNCOUNTED_END), "200 stop", UNCOUNTED),
    Case("it has no text", _HTTP, Says(_EMPTY_END), "200 stop", EMPTY),
    Case("it has no text", _SSE, Says(_EMPTY_END), "200 stop", EMPTY),
    Case("it has no text", _SOCKET, Says(_EMPTY_END), "done stop", EMPTY),
    Case("no text, nobody counted", _HTTP, Says(_UNCOUNTED_END), "200 stop", EMPTY_UNCOUNTED),
    Case("a failure follows its end", _SSE, Says("Hel", "lo", END, _BUG), "200 stop", WHOLE),
    Case("a failure follows its end", _SOCKET, Says("Hel", "lo", END, _DOWN), "done stop", WHOLE),
    Case("text follows its end", _HTTP, Says("Hel", "lo", END, "!", END), "200 stop", WHOLE),
    Case("text follows its end", _SOCKET, Says("Hel", "lo", END, "!"), "done stop", WHOLE),
    Case("its provider fails to close", _HTTP, Says("Hel", "lo", END, closing="raises"),
         "200 stop", WHOLE, logged=_LATE_LINE),
    Case("its provider never closes", _SSE, Says("Hel", "lo", END, closing="hangs"),
         "200 stop", WHOLE, logged=_HANG_LINE),
]

FAILURES = [
    Case("refused", _HTTP, Says(_BUSY), "429 rate_limit_exceeded retry-after 7",
         failed("rate_limit_exceeded")),
    Case("refused", _SSE, Says(_BUSY), "429 rate_limit_exceeded retry-after 7",
         failed("rate_limit_exceeded")),
    Case("refused", _SOCKET, Says(_BUSY), "error rate_limit_exceeded",
         failed("rate_limit_exceeded")),
    Case("fails midway", _HTTP, Says("a", _DOWN), "502 server_error",
         failed("server_error", ONE_PIECE, message=False)),
    Case("fails midway", _SSE, Says("a", _DOWN), "200 error server_error",
         failed("server_error", ONE_PIECE)),
    Case("fails midway", _SOCKET, Says("a", _DOWN), "error server_error",
         failed("server_error", ONE_PIECE)),
    Case("stops without an end", _HTTP, Says("a"), "502 broken_stream",
         failed("broken_stream", ONE_PIECE, message=False)),
    Case("stops without an end", _SSE, Says("a"), "200 error broken_stream",
         failed("broken_stream", ONE_PIECE)),
    Case("stops without a word", _SOCKET, Says(), "error broken_stream",
         failed("broken_stream")),
    Case("stalls before the first piece", _HTTP, Says(SILENCE), "504 stalled",
         failed("stalled"), stall_seconds=0.1),
    Case("stalls before the first piece", _SSE, Says(SILENCE), "504 stalled",
         failed("stalled"), stall_seconds=0.1),
    Case("stalls midway", _SSE, Says("a", SILENCE), "200 error stalled",
         failed("stalled", ONE_PIECE), stall_seconds=0.1),
    Case("stalls midway", _SOCKET, Says("a", SILENCE), "error stalled",
         failed("stalled", ONE_PIECE), stall_seconds=0.1),
    Case("stalls, and fails to close", _SOCKET, Says("a", SILENCE, closing="raises"),
         "error stalled", failed("stalled", ONE_PIECE), stall_seconds=0.1, logged=_LATE_LINE),
    Case("has a bug", _HTTP, Says(_BUG), "500 internal_error",
         failed("internal_error"), logged=_BUG_LINE),
    Case("has a bug midway", _SSE, Says("a", _BUG), "200 error internal_error",
         failed("internal_error", ONE_PIECE), logged=_BUG_LINE),
    Case("has a bug midway", _SOCKET, Says("a", _BUG), "error internal_error",
         failed("internal_error", ONE_PIECE), logged=_BUG_LINE),
]

OUR_BUGS = [
    Case("a piece cannot be written", _SSE, Says("a", END), "500 internal_error",
         failed("internal_error", ONE_PIECE, message=False),
         broken="app.wire.completion.Completion.delta", logged=_BUG_LINE),
    Case("the end cannot be written", _HTTP, Says("Hel", "lo", END), "500 internal_error",
         failed("internal_error", Tokens(3, 2), message=False),
         broken="app.wire.completion.Completion.whole", logged=_BUG_LINE),
    Case("the end cannot be written", _SSE, Says("Hel", "lo", END), "200 error internal_error",
         failed("internal_error", Tokens(3, 2)),
         broken="app.wire.completion.Completion.last", logged=_BUG_LINE),
    Case("the end cannot be written", _SOCKET, Says("Hel", "lo", END), "error internal_error",
         failed("internal_error", Tokens(3, 2)),
         broken="app.wire.websocket.usage_object", logged=_BUG_LINE),
    Case("a failure cannot be told", _HTTP, Says(_DOWN), "500 internal_error",
         failed("server_error"),
         broken="app.transport.outputs.WholeResponse.failed", logged=("request failed",)),
    Case("a failure cannot be told midway", _SSE, Says("a", _DOWN), "200 cut",
         failed("server_error", ONE_PIECE), broken="app.transport.outputs.EventStream.failed",
         logged=("request failed", "ASGI callable returned without completing response.")),
    Case("a failure cannot be told midway", _SOCKET, Says("a", _DOWN), "closed 1011",
         failed("server_error", ONE_PIECE), broken="app.transport.websocket.WebSocketOutput.failed",
         logged=("socket message failed",)),
]

GIVEN_UP = [
    Case("before the first piece", _HTTP, Says(SILENCE), "left", cancelled(), _LEAVES),
    Case("before the first piece", _SSE, Says(SILENCE), "left", cancelled(), _LEAVES),
    Case("before the first piece", _SOCKET, Says(SILENCE), "left", cancelled(), _LEAVES),
    Case("midway", _HTTP, Says("a", SILENCE), "left", cancelled(ONE_PIECE, message=False), _LEAVES),
    Case("midway", _SSE, Says("a", SILENCE), "left", cancelled(ONE_PIECE), _LEAVES),
    Case("midway", _SOCKET, Says("a", SILENCE), "left", cancelled(ONE_PIECE), _LEAVES),
    Case("without a word", _SOCKET, Says("a", SILENCE), "left", cancelled(ONE_PIECE), _VANISHES),
    Case("its provider keeps a span current", _HTTP, Says("a", SILENCE, traced=True), "left",
         cancelled(ONE_PIECE, message=False), _LEAVES),
    Case("its provider keeps a span current", _SSE, Says("a", SILENCE, traced=True), "left",
         cancelled(ONE_PIECE), _LEAVES),
    Case("its provider keeps a span current", _SOCKET, Says("a", SILENCE, traced=True), "left",
         cancelled(ONE_PIECE), _LEAVES),
    Case("by a message", _SOCKET, Says(SILENCE), "done cancelled", cancelled(), _CANCELS),
    Case("by a message midway", _SOCKET, Says("a", SILENCE), "done cancelled",
         cancelled(ONE_PIECE), _CANCELS),
    Case("the provider fails to close", _SSE, Says("a", SILENCE, closing="raises"), "left",
         cancelled(ONE_PIECE), _LEAVES, logged=_LATE_LINE),
    Case("the provider fails to close", _SOCKET, Says("a", SILENCE, closing="raises"),
         "done cancelled", cancelled(ONE_PIECE), _CANCELS, logged=_LATE_LINE),
    Case("the provider never closes", _HTTP, Says("a", SILENCE, closing="hangs"), "left",
         cancelled(ONE_PIECE, message=False), _LEAVES, logged=_HANG_LINE),
    Case("the provider never closes", _SOCKET, Says("a", SILENCE, closing="hangs"),
         "done cancelled", cancelled(ONE_PIECE), _CANCELS, logged=_HANG_LINE),
]

SERVER_STOPS = [
    Case("before the first piece", _HTTP, Says(SILENCE), _RESTART,
         cancelled(by="shutting_down"), _STAYS, logged=_CUT_LINE),
    Case("before the first piece", _SSE, Says(SILENCE), _RESTART,
         cancelled(by="shutting_down"), _STAYS, logged=_CUT_LINE),
    Case("midway", _HTTP, Says("a", SILENCE), _RESTART,
         cancelled(ONE_PIECE, message=False, by="shutting_down"), _STAYS, logged=_CUT_LINE),
    Case("midway", _SSE, Says("a", SILENCE), "200 error shutting_down",
         cancelled(ONE_PIECE, by="shutting_down"), _STAYS, logged=_CUT_LINE),
    Case("before the first piece", _SOCKET, Says(SILENCE),
         "error shutting_down, closed 1001",
         cancelled(by="shutting_down"), _STAYS, logged=_CUT_LINE),
    Case("midway", _SOCKET, Says("a", SILENCE),
         "error shutting_down, closed 1001",
         cancelled(ONE_PIECE, by="shutting_down"), _STAYS, logged=_CUT_LINE),
    Case("its provider never closes", _SSE, Says("a", SILENCE, closing="hangs"),
         "200 error shutting_down", cancelled(ONE_PIECE, by="shutting_down"), _STAYS,
         logged=(*_CUT_LINE, *_HANG_LINE)),
]

BLOCKING = [
    Case("it comes to its end", _HTTP, Says("Hel", "lo", END, blocking=True), "200 stop", WHOLE),
    Case("it fails midway", _SSE, Says("a", _DOWN, blocking=True), "200 error server_error",
         failed("server_error", ONE_PIECE)),
    Case("it stalls", _HTTP, Says(SILENCE, blocking=True), "504 stalled",
         failed("stalled"), stall_seconds=0.1),
    Case("its client leaves", _SSE, Says("a", SILENCE, blocking=True), "left",
         cancelled(ONE_PIECE), _LEAVES),
    Case("it keeps a span current", _SSE, Says("Hel", "lo", END, blocking=True, traced=True),
         "200 stop", WHOLE),
    Case("its client cancels", _SOCKET, Says("a", SILENCE, blocking=True), "done cancelled",
         cancelled(ONE_PIECE), _CANCELS),
]

UPSTREAM = [
    Case("answers", _SSE, Endpoint(streams(text("Hel"), text("lo"), end(), usage(3, 2), "[DONE]")),
         "200 stop", WHOLE),
    Case("does not take our key", _HTTP, Endpoint(refuses(401)), "502 authentication",
         failed("authentication")),
    Case("takes no more for now", _SSE, Endpoint(refuses(429, retry_after="7")),
         "429 rate_limit_exceeded retry-after 7", failed("rate_limit_exceeded")),
    Case("fails", _SOCKET, Endpoint(refuses(500)), "error server_error", failed("server_error")),
    Case("answers with no JSON", _HTTP, Endpoint(streams("{not json")), "502 bad_response",
         failed("bad_response")),
    Case("breaks off", _SSE, Endpoint(streams(text("a"))), "200 error broken_stream",
         failed("broken_stream", ONE_PIECE)),
    Case("is silent", _HTTP, Endpoint(streams(silent=True), timeout=0.1), "504 timeout",
         failed("timeout")),
    Case("is silent midway", _SSE, Endpoint(streams(text("a"), silent=True), timeout=0.1),
         "200 error timeout", failed("timeout", ONE_PIECE)),
    Case("keeps the line alive, but says nothing", _SSE,
         Endpoint(streams(text("a"), *[text("")] * 3, silent=True)),
         "200 error stalled", failed("stalled", ONE_PIECE), stall_seconds=0.2),
    Case("reasons for longer than it may be silent", _SSE,
         Endpoint(streams(*[reasoning("hm")] * 8, text("a"), end(), usage(3, 9), pause=0.1)),
         "200 stop", Record("completed", None, Tokens(3, 9), message=True), stall_seconds=0.4),
    Case("only refuses", _HTTP, Endpoint(streams(refusal("No."), end(), usage(3, 1))),
         "200 stop", Record("completed", None, Tokens(3, 1), message=True)),
    Case("answers at the third try", _SSE,
         Endpoint(refuses(500, retry_after_ms="1"), refuses(429, retry_after_ms="1"),
                  streams(text("Hel"), text("lo"), end(), usage(3, 2), "[DONE]"), max_retries=2),
         "200 stop", WHOLE, retries=(retry(1, 500), retry(2, 429))),
    Case("fails at each try", _HTTP, Endpoint(refuses(500, retry_after_ms="1"), max_retries=2),
         "502 server_error", failed("server_error"), retries=(retry(1, 500), retry(2, 500))),
]
# fmt: on
