"""One turn of a chat by each of the three transports, with common clients."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import openai
from openai.types import CompletionUsage
from websockets.sync.client import connect

MODEL = "simulated-1"
QUESTION = "What can you see of an answer?"


@dataclass(frozen=True)
class Turn:
    """One turn as seen by the client."""

    text: str
    trace_id: str
    prompt_tokens: int
    completion_tokens: int


def http_turn(facts: Mapping[str, str]) -> Turn:
    """Send a request with the official client, without streaming."""
    with openai_client(facts) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}]
        )
        completion = raw.parse()
        text = completion.choices[0].message.content or ""
        return _turn(text, raw.headers["x-trace-id"], completion.usage)


def sse_turn(facts: Mapping[str, str]) -> Turn:
    """Send a streaming request with the official client."""
    with openai_client(facts) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
        text, usage = "", None
        for chunk in raw.parse():
            usage = chunk.usage or usage
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
        return _turn(text, raw.headers["x-trace-id"], usage)


def websocket_turn(facts: Mapping[str, str]) -> Turn:
    """Send a message over a WebSocket."""
    with connect(websocket_url(facts)) as socket:
        socket.send(json.dumps({"type": "message", "content": QUESTION, "model": MODEL}))
        text = ""
        while True:
            message = json.loads(socket.recv(timeout=30))
            if message["type"] == "delta":
                text += message["content"]
            else:
                break
    assert message["type"] == "done", message
    usage = message["usage"]
    return Turn(text, message["trace_id"], usage["prompt_tokens"], usage["completion_tokens"])


def openai_client(facts: Mapping[str, str]) -> openai.OpenAI:
    """Return the official client with the service's address, otherwise unchanged."""
    return openai.OpenAI(base_url=f"{facts['APP_URL']}/v1", api_key="none", max_retries=0)


def websocket_url(facts: Mapping[str, str]) -> str:
    """Return the address of the WebSocket endpoint."""
    return facts["APP_URL"].replace("http", "ws", 1) + "/ws/chat"


def _turn(text: str, trace_id: str, usage: CompletionUsage | None) -> Turn:
    assert usage is not None
    return Turn(text, trace_id, usage.prompt_tokens, usage.completion_tokens)


WAYS = {"http": http_turn, "sse": sse_turn, "websocket": websocket_turn}
