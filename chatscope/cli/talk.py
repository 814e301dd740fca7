"""`chatscope conversation`: what was said in one conversation, turn by turn."""

import json
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from chatscope.cli.conversations import Conversation, as_metadata, grouped, said_in
from chatscope.cli.errors import CommandError
from chatscope.cli.loki import Loki, quoted, selector
from chatscope.cli.openai_format import Message
from chatscope.cli.responses import Response, add_texts, ratings, responses, tokens
from chatscope.cli.screen import clock, joined, line, money, safe
from chatscope.cli.tempo import Tempo, as_trace_id
from chatscope.escaping import escape_controls
from chatscope.names import (
    ANSWER_COST,
    ERROR_MESSAGE,
    ERROR_TYPE,
    GEN_AI_CONVERSATION_ID,
    GEN_AI_REQUEST_MODEL,
    prometheus_label,
)

_STYLES: Final = {"user": "bold", "assistant": "cyan"}
_NO_TEXTS: Final = (
    "No texts were captured: OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT turns that on."
)


def read(loki: Loki, tempo: Tempo | None, key: str, start: int, end: int) -> Conversation:
    """Return the conversation with an ID, or that of a trace. Raise CommandError."""
    found = _with(loki, GEN_AI_CONVERSATION_ID, key, start, end)
    if not found and (trace_id := as_trace_id(key)):
        found = _with(loki, "trace_id", trace_id, start, end)
    if not found:
        raise CommandError(f"no response of a conversation {key!r} in this time (--since)")
    if tempo:
        add_texts(tempo, found)
    conversations = grouped(found, ratings(loki, selector([]), start, end))
    return conversations[-1]


def _with(loki: Loki, name: str, value: str, start: int, end: int) -> list[Response]:
    condition = f"{prometheus_label(name)}={quoted(value)}"
    return responses(loki, selector([]), condition, start, end)


def as_object(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation for JSON, as an export has it; without captured texts, no messages."""
    turns = said_in(conversation)
    messages = [message for _, said in turns for message in said]
    return {"messages": messages, "metadata": as_metadata(conversation)}


def show(console: Console, conversation: Conversation) -> None:
    """Print each turn: its messages, its model, tokens, cost and trace; then the sums."""
    about = as_metadata(conversation)
    line(console, f"Conversation {conversation.key}", "bold")
    heading = [about.get("service"), about.get("user_id"), f"{about['turns']} turns"]
    console.print(joined([str(each) for each in heading if each]), style="dim")
    turns = said_in(conversation)
    rated = {rating.trace_id: rating for rating in conversation.ratings}
    for response, messages in turns:
        console.print()
        for message in messages:
            _show_message(console, message)
        rating = rated.get(response.trace_id)
        facts: list[Text | str | None] = [
            safe(clock(response.time), "dim"),
            response.facts.get(GEN_AI_REQUEST_MODEL, ""),
            safe(response.outcome, "red" if response.outcome == "failed" else ""),
            response.facts.get(ERROR_TYPE, ""),
            response.facts.get(ERROR_MESSAGE, ""),
            tokens(response.facts),
            money(response.number(ANSWER_COST)) if ANSWER_COST in response.facts else None,
            f"rated {rating.label}" if rating else None,
            safe(f"trace {response.trace_id}", "dim"),
        ]
        console.print(joined(facts))
    console.print()
    sums = [f"{about['input_tokens']} + {about['output_tokens']} tokens", money(about["cost"])]
    console.print(joined(sums))
    if not any(messages for _, messages in turns):
        console.print(_NO_TEXTS, style="dim")


def _show_message(console: Console, message: Message) -> None:
    role = str(message.get("role") or "")
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content) if content else ""
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        text += f"[{function.get('name')}: {function.get('arguments')}]"
    label = safe(f"{role}: ", _STYLES.get(role, "dim"))
    # Lines of a text stay as they are.
    console.print(
        label + Text(escape_controls(text.replace("\r\n", "\n"), "\n\t")),
        soft_wrap=not console.is_terminal,
    )
