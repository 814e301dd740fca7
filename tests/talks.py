"""Recorded conversations of a service with the package, sent to a Loki without a Collector."""

import json
import os
import subprocess
import sys
from typing import Any, Final

from stack.facts import ROOT

_WEATHER: Final = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}},
}
_CALL: Final = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
}
# For each response: conversation, user, model, messages, the response's message or error, and its
# rating.
TALKS: Final[list[dict[str, Any]]] = [
    {
        "conversation_id": "c-1",
        "user_id": "ann",
        "messages": [{"role": "user", "content": "Do I need a coat in Rome?"}],
        "tools": [_WEATHER],
        "said": {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        "finish_reason": "tool_calls",
    },
    {
        "user_id": "ben",
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": 'Say "hi"'}],
        "said": {"role": "assistant", "content": "hi"},
        "rating": ["good", None],
    },
    {
        "conversation_id": "c-1",
        "user_id": "ann",
        "messages": [
            {"role": "user", "content": "Do I need a coat in Rome?"},
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"},
        ],
        "said": {"role": "assistant", "content": "No, it is warm."},
        "rating": ["bad", "I still froze."],
    },
    {
        "conversation_id": "c-2",
        "user_id": "ann",
        "messages": [{"role": "user", "content": "Ünïcode?"}],
        "error": "rate_limit_exceeded",
    },
]

_PROGRAM: Final = """
import json, sys
from typing import Any
import chatscope
from chatscope import genai

chatscope.configure(service_name="talks")
for talk in json.load(sys.stdin):
    said, rating, error = (talk.pop(name, None) for name in ("said", "rating", "error"))
    finish_reason = talk.pop("finish_reason", "stop")
    attributes = {"chatscope.key.name": "k-" + talk["user_id"], "chatscope.key.team": "search"}
    with genai.inference(
        **{"model": "gpt-4o", "provider": "openai", "attributes": attributes, **talk}
    ) as call:
        if error:
            call.failed(error)
        else:
            choice = {"index": 0, "message": said, "finish_reason": finish_reason}
            usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
            call.response({"object": "chat.completion", "id": "r", "model": "gpt-4o-2026",
                           "choices": [choice], "usage": usage})
        if rating:
            chatscope.record_feedback(rating[0], comment=rating[1])
"""


def talk(
    loki_url: str,
    talks: list[dict[str, Any]],
    *,
    capture: str = "EVENT_ONLY",
    traces_url: str = "",
) -> None:
    """Record the conversations in their order; send spans to `traces_url` over gRPC, if set.

    Returns when the process has sent everything.
    """
    endpoint = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{loki_url}/otlp/v1/logs",
        **_spans_to(traces_url),
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": capture,
    }
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=ROOT,
        env={**os.environ, **endpoint},
        input=json.dumps(talks),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _spans_to(url: str) -> dict[str, str]:
    if not url:
        return {"OTEL_TRACES_EXPORTER": "none"}
    return {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
    }
