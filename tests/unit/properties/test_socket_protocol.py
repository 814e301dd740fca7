"""The WebSocket protocol as a state machine: whatever comes, and whenever, each question has one
end and each answer one record."""

import json
from collections import deque
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from app.domain.provider import ProviderError
from tests.unit.properties.connection import HISTORY, MODEL, Connection, completed

pytestmark = pytest.mark.slow

_texts = st.text(max_size=20)
_pieces = st.text(min_size=1, max_size=5)
_not_json = st.text(max_size=20).filter(lambda text: not _is_json(text))
_wrong_questions = st.sampled_from(
    [
        ({"type": "message"}, "invalid_request"),
        ({"type": "message", "content": 5}, "invalid_request"),
        ({"type": "message", "content": "x", "temperature": 1}, "invalid_request"),
        ({"type": "message", "content": "x" * 21}, "too_many_message_chars"),
        ({"type": "message", "content": "x", "model": "other"}, "model_not_found"),
    ]
)
_NO_TYPE: list[Any] = [[], 5, None, {}, {"type": "shout"}, {"type": ["message"]}]
_of_no_type = st.sampled_from(_NO_TYPE)
_burst = st.lists(
    st.one_of(
        _texts.map(lambda text: {"type": "message", "content": text}),
        _wrong_questions.map(lambda wrong: wrong[0]),
        st.just({"type": "cancel"}),
        st.just({"type": "ping"}),
        _not_json,
        st.binary(max_size=5),
    ),
    min_size=2,
    max_size=6,
)


_steps = st.lists(
    st.one_of(
        _pieces,
        st.integers(1, 50).map(completed),
        st.builds(ProviderError, st.just("timeout"), st.just("late")),
    ),
    max_size=3,
)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _type(message: Any) -> str:
    return str(message.get("type")) if isinstance(message, dict) else ""


class SocketProtocol(RuleBasedStateMachine):
    """The model: is there an answer on its way, and what is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = Connection()
        self.asked: str | None = None  # the question whose answer is on its way
        self.heard = ""  # of that answer
        self.remembered: deque[tuple[str, str]] = deque(maxlen=HISTORY // 2)
        self.outcomes: list[str] = []  # of the answers that have ended, in order
        self.tokens = 0

    # What the client does.

    @precondition(lambda self: self.connection.serving)
    @rule(text=_texts)
    def ask(self, text: str) -> None:
        out = self.connection.say({"type": "message", "content": text})
        if self.asked is not None:
            assert _codes(out) == ["turn_in_progress"]
            return
        assert out == []
        self._is_asked(text)

    @precondition(lambda self: self.connection.serving)
    @rule(wrong=_wrong_questions)
    def ask_wrongly(self, wrong: tuple[dict[str, Any], str]) -> None:
        message, code = wrong
        expected = "turn_in_progress" if self.asked is not None else code
        assert _codes(self.connection.say(message)) == [expected]

    @precondition(lambda self: self.connection.serving)
    @rule()
    def cancel(self) -> None:
        out = self.connection.say({"type": "cancel"})
        if self.asked is None:
            assert out == []
        else:
            assert [(m["type"], m["finish_reason"]) for m in out] == [("done", "cancelled")]
            self._has_ended("cancelled")

    @precondition(lambda self: self.connection.serving and self.asked is not None)
    @rule(text=_texts, times=st.integers(1, 3))
    def cancel_and_ask_at_once(self, text: str, times: int) -> None:
        cancels = [{"type": "cancel"}] * times
        (end,) = self.connection.say(*cancels, {"type": "message", "content": text})
        assert (end["type"], end["finish_reason"]) == ("done", "cancelled")
        self._has_ended("cancelled")
        self._is_asked(text)

    @precondition(lambda self: self.connection.serving)
    @rule()
    def ping(self) -> None:
        assert self.connection.say({"type": "ping"}) == [{"type": "pong"}]

    @precondition(lambda self: self.connection.serving)
    @rule(text=_not_json)
    def send_garbage(self, text: str) -> None:
        assert _codes(self.connection.say(text)) == ["invalid_json"]

    @precondition(lambda self: self.connection.serving)
    @rule(data=st.binary(max_size=10))
    def send_binary(self, data: bytes) -> None:
        assert _codes(self.connection.say(data)) == ["binary_message"]

    @precondition(lambda self: self.connection.serving)
    @rule(message=_of_no_type)
    def send_what_has_no_type(self, message: Any) -> None:
        assert _codes(self.connection.say(json.dumps(message))) == ["unknown_type"]

    @precondition(lambda self: self.connection.serving)
    @rule(messages=_burst, steps=_steps)
    def much_happens_at_once(self, messages: list[Any], steps: list[Any]) -> None:
        """Which questions are taken depends on what they cross; that each has an end does not."""
        provider = self.connection.provider
        before = len(provider.requests)
        for step in steps if self.asked is not None else ():
            provider.play(step)
        out = self.connection.say(*messages)
        new = [request.messages[-1]["content"] for request in provider.requests[before:]]
        sent_back = self._follow(out, list(new))
        questions = sum(_type(message) == "message" for message in messages)
        others = sum(_type(message) not in ("message", "cancel", "ping") for message in messages)
        assert sent_back == questions - len(new) + others
        assert out.count({"type": "pong"}) == sum(_type(message) == "ping" for message in messages)

    def _follow(self, out: list[dict[str, Any]], new: list[str]) -> int:
        """Take the model through the messages of several answers, one after the other; returns
        how many errors were about none of them."""
        sent_back = 0
        for message in out:
            outcome = _outcome(message)
            if self.asked is None and (outcome or message["type"] == "delta"):
                self.asked, self.heard = new.pop(0), ""
            if message["type"] == "delta":
                self.heard += message["content"]
            elif outcome:
                if outcome == "completed":
                    self.tokens += message["usage"]["completion_tokens"]
                self._has_ended(outcome)
            elif message["type"] == "error":
                sent_back += 1
        if self.asked is None and new:
            self.asked, self.heard = new.pop(0), ""
        assert new == []
        return sent_back

    # What the provider does.

    @precondition(lambda self: self.asked is not None)
    @rule(text=_pieces)
    def provider_says(self, text: str) -> None:
        assert self.connection.play(text) == [{"type": "delta", "content": text}]
        self.heard += text

    @precondition(lambda self: self.asked is not None)
    @rule(text=_pieces, tokens=st.integers(1, 50))
    def provider_ends(self, text: str, tokens: int) -> None:
        delta, done = self.connection.play(text, completed(tokens))
        assert delta == {"type": "delta", "content": text}
        assert (done["type"], done["finish_reason"]) == ("done", "stop")
        assert done["usage"]["completion_tokens"] == tokens
        self.heard += text
        self.tokens += tokens
        self._has_ended("completed")

    @precondition(lambda self: self.asked is not None)
    @rule(error=st.sampled_from(["timeout", "bug"]))
    def provider_fails(self, error: str) -> None:
        failure = ProviderError(error, "late") if error == "timeout" else ZeroDivisionError()
        code = error if error == "timeout" else "internal_error"
        assert _codes(self.connection.play(failure)) == [code]
        self._has_ended("failed")

    # How it ends.

    @precondition(lambda self: self.connection.serving)
    @rule(code=st.sampled_from([1000, 1001, 1002, 1006, 1009]))
    def client_leaves_and_another_comes(self, code: int) -> None:
        self.connection.leave(code)
        assert not self.connection.serving
        if self.asked is not None:
            self._has_ended("cancelled")
        self.connection.open()
        self.remembered.clear()

    @precondition(lambda self: self.connection.serving)
    @rule()
    def service_stops(self) -> None:
        out = self.connection.stop_service()
        assert _codes(out) == ["shutting_down"]
        assert self.connection.closed == 1001
        assert not self.connection.serving
        if self.asked is not None:
            self._has_ended("cancelled")

    @precondition(lambda self: not self.connection.serving)
    @rule()
    def nothing_more_happens(self) -> None:
        assert self.connection.settle() == []

    # What holds at any time.

    @invariant()
    def each_answer_has_one_record(self) -> None:
        memory = self.connection.memory
        spans = [span for span in memory.spans if span.name == f"chat {MODEL}"]
        lines = [
            str(record.log_record.body).removeprefix("answer ")
            for record in memory.logs
            if str(record.log_record.body).startswith("answer ")
            and record.log_record.body != "response failed"
        ]
        assert lines == self.outcomes
        assert len(spans) == len(self.outcomes)
        assert memory.value("llm_response_time") == len(self.outcomes)
        assert memory.value("gen_ai.client.inference.duration") == len(self.outcomes)

    @invariant()
    def the_model_is_called_only_for_the_answer_on_its_way(self) -> None:
        assert self.connection.provider.open == int(self.asked is not None)

    def teardown(self) -> None:
        self.connection.end()
        if self.asked is not None:
            self._has_ended("cancelled")
        self.each_answer_has_one_record()
        memory = self.connection.memory
        assert memory.value("socket_connections") == 0
        assert memory.value("chatscope.answers.active") == 0
        completed_tokens = sum(
            int(str((span.attributes or {})["gen_ai.usage.output_tokens"]))
            for span in memory.spans
            if span.name == f"chat {MODEL}"
            and (span.attributes or {}).get("gen_ai.response.finish_reasons") == ("stop",)
        )
        assert completed_tokens == self.tokens

    def _is_asked(self, text: str) -> None:
        self.asked, self.heard = text, ""
        sent = [message["content"] for message in self.connection.provider.requests[-1].messages]
        assert len(sent) <= HISTORY + 1
        assert sent == [*(part for turn in self.remembered for part in turn), text]

    def _has_ended(self, outcome: str) -> None:
        assert self.asked is not None
        if self.heard:
            self.remembered.append((self.asked, self.heard))
        self.asked = None
        self.outcomes.append(outcome)


def _outcome(message: dict[str, Any]) -> str | None:
    """How an answer ended, if this is the end of one."""
    if message["type"] == "done":
        return {"stop": "completed", "cancelled": "cancelled"}[message["finish_reason"]]
    failed = message["type"] == "error" and message["error"]["code"] == "timeout"
    return "failed" if failed else None


def _codes(messages: list[dict[str, Any]]) -> list[str]:
    """The codes of error messages; all must be ones."""
    assert all(message["type"] == "error" for message in messages), messages
    assert all(len(message["trace_id"]) == 32 for message in messages)
    return [message["error"]["code"] for message in messages]


SocketProtocol.TestCase.settings = settings(max_examples=40)
TestSocketProtocol = SocketProtocol.TestCase
