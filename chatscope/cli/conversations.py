"""Conversations: which responses belong together, and what was said."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatscope.cli.openai_format import Message, messages_of, system_of, tools_of
from chatscope.cli.responses import Rating, Response
from chatscope.cli.times import as_text
from chatscope.names import (
    ANSWER_COST,
    GEN_AI_CONVERSATION_ID,
    GEN_AI_INPUT_MESSAGES,
    GEN_AI_OUTPUT_MESSAGES,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_SYSTEM_INSTRUCTIONS,
    GEN_AI_TOOL_DEFINITIONS,
    GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
    SESSION_ID,
    USER_ID,
)


@dataclass
class Conversation:
    """The responses of one conversation, in the order of time."""

    key: str
    responses: list[Response] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The time of its first response, in ns."""
        return self.responses[0].time

    @property
    def last(self) -> int:
        """The time of its last response, in ns."""
        return self.responses[-1].time

    @property
    def has_id(self) -> bool:
        """Whether it has an ID, and is not only the responses of one trace."""
        return GEN_AI_CONVERSATION_ID in self.responses[0].facts

    def values(self, name: str) -> set[str]:
        """Return all values that a fact has in its responses."""
        return {value for each in self.responses if (value := each.facts.get(name))}


def grouped(responses: Iterable[Response], ratings: Iterable[Rating]) -> list[Conversation]:
    """Return the conversations of some responses, by their last activity."""
    found: dict[str, Conversation] = {}
    of_trace: dict[str, Conversation] = {}
    for response in responses:
        conversation = found.setdefault(response.conversation, Conversation(response.conversation))
        conversation.responses.append(response)
        of_trace[response.trace_id] = conversation
    for rating in ratings:
        if rating.trace_id in of_trace:
            of_trace[rating.trace_id].ratings.append(rating)
    return sorted(found.values(), key=lambda each: (each.last, each.key))


def as_object(conversation: Conversation) -> dict[str, Any] | None:
    """Return a line of the export; None if no text of it was captured."""
    messages = [message for _, said in said_in(conversation) for message in said]
    if not messages:
        return None
    tools = [tools_of(each.texts.get(GEN_AI_TOOL_DEFINITIONS)) for each in conversation.responses]
    last_tools = next((each for each in reversed(tools) if each), None)
    found: dict[str, Any] = {"messages": messages}
    if last_tools:
        found["tools"] = last_tools
    return {**found, "metadata": as_metadata(conversation)}


def said_in(conversation: Conversation) -> list[tuple[Response, list[Message]]]:
    """Return what was said, once, by the response with which it was.

    Each request repeats what was said before, of which only its first one needs to be read: the
    new messages of a later one follow the last response in it.
    """
    found: list[tuple[Response, list[Message]]] = []
    has_text = False
    for response in conversation.responses:
        asked = messages_of(response.texts.get(GEN_AI_INPUT_MESSAGES))
        if has_text:
            asked = asked[_after_the_last_response(asked) :]
        elif asked:
            asked = [*system_of(response.texts.get(GEN_AI_SYSTEM_INSTRUCTIONS)), *asked]
        # The first choice; clients continue with that.
        said = messages_of(response.texts.get(GEN_AI_OUTPUT_MESSAGES))[:1]
        said = [message for message in said if message.get("content") or len(message) > 2]
        found.append((response, [*asked, *said]))
        has_text = has_text or bool(asked or said)
    return found


def _after_the_last_response(messages: Sequence[Message]) -> int:
    places = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    return places[-1] + 1 if places else 0


def as_metadata(conversation: Conversation) -> dict[str, Any]:
    """Return what is known of a conversation without its texts."""
    responses = conversation.responses
    shown: Mapping[str, Any] = {
        "conversation_id": conversation.key if conversation.has_id else None,
        "user_id": _one(conversation.values(USER_ID)),
        "session_id": _one(conversation.values(SESSION_ID)),
        "service": _one(conversation.values("service")),
        "models": sorted(conversation.values(GEN_AI_REQUEST_MODEL)),
        "providers": sorted(conversation.values(GEN_AI_PROVIDER_NAME)),
        "outcome": responses[-1].outcome,
        "turns": len(responses),
        "input_tokens": int(sum(each.number(GEN_AI_USAGE_INPUT_TOKENS) for each in responses)),
        "output_tokens": int(sum(each.number(GEN_AI_USAGE_OUTPUT_TOKENS) for each in responses)),
        "cost": round(sum(each.number(ANSWER_COST) for each in responses), 9),
        "first": as_text(conversation.first),
        "last": as_text(conversation.last),
        "trace_ids": list(dict.fromkeys(each.trace_id for each in responses)),
        "ratings": [dict(rating.shown) for rating in conversation.ratings],
    }
    return {name: value for name, value in shown.items() if value is not None}


def _one(values: set[str]) -> str | None:
    return min(values, default=None)
