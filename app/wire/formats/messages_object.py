"""The message and the errors of Anthropic's format."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from app.domain.errors import ServiceError
from app.json_text import partial_object
from app.response_id import new_response_id
from app.wire.errors import http_status
from app.wire.formats.base import Json
from app.wire.formats.blocks import Block, BlockReader, Kind
from app.wire.formats.reading import without_none
from chatscope.genai import Usage

_STOP_REASONS: Final = {
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
}
_ERROR_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class MessageObject:
    """One message at any moment."""

    def __init__(self, model: str, *, thinking: bool, stop_sequences: Collection[str]) -> None:
        """`thinking`: whether the client expects thinking blocks."""
        self.reader = BlockReader(reasoning=thinking)
        self._stop_sequences = stop_sequences
        self._shared: Json = {
            "id": new_response_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": model,
        }

    def describe(self, completion: Mapping[str, Any]) -> None:
        """Take the model of a completion or its first chunk."""
        if isinstance(model := completion.get("model"), str) and model:
            self._shared["model"] = model

    def started(self) -> Json:
        """Return the message at its start; its usage is known at the end only."""
        stop = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
        return {**self._shared, "content": [], **stop, "usage": _usage(Usage(0))}

    def ended(self) -> Json:
        """Return the whole message."""
        content = [self.block(block) for block in self.reader.blocks]
        return {**self._shared, "content": content, **self.stop(), "usage": self.usage()}

    def usage(self) -> Json:
        """Return the usage; zeros if the provider reported none, because the format needs it."""
        return _usage(self.reader.usage or Usage(0))

    def stop(self) -> Json:
        """Return why the message ended."""
        reason = self._stop_reason()
        is_refusal = reason == "refusal"
        details = {"type": "refusal", "category": None, "explanation": None}
        return {
            "stop_reason": reason,
            "stop_sequence": self.reader.stop_sequence if reason == "stop_sequence" else None,
            "stop_details": details if is_refusal else None,
        }

    def _stop_reason(self) -> str:
        kinds = {block.kind for block in self.reader.blocks}
        if (known := _STOP_REASONS.get(self.reader.finish_reason or "")) is not None:
            return known
        if Kind.REFUSAL in kinds:
            return "refusal"
        if Kind.TOOL_CALL in kinds:  # some providers report `stop` for them
            return "tool_use"
        is_stopped = self.reader.stop_sequence in self._stop_sequences
        return "stop_sequence" if is_stopped else "end_turn"

    def block(self, block: Block, *, empty: bool = False) -> Json:
        """Return the content block; `empty`: as it is when it starts."""
        text = "" if empty else block.text
        match block.kind:
            case Kind.TOOL_CALL:
                tool = {"id": block.call_id, "name": block.name, "input": partial_object(text)}
                return {"type": "tool_use", **tool}
            case Kind.REASONING:
                # A signature is the provider's own; chat completions have none.
                return {"type": "thinking", "thinking": text, "signature": ""}
            case _:
                return {"type": "text", "text": text}


def render_error(error: ServiceError, trace_id: str) -> Json:
    """Return an error: the same object in a response and in a stream."""
    details = without_none({"error_code": error.code, "param": error.param})
    body = {"type": _error_type(error), "message": error.message, "details": details}
    return {"type": "error", "error": body, "request_id": trace_id}


def _error_type(error: ServiceError) -> str:
    status = http_status(error)
    return _ERROR_TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")


def _usage(usage: Usage) -> Json:
    """Return the usage, whose input tokens are without those of the cache."""
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    thinking = usage.reasoning_tokens
    return {
        "input_tokens": max(usage.prompt_tokens - read - written, 0),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": usage.completion_tokens,
        **({"output_tokens_details": {"thinking_tokens": thinking}} if thinking else {}),
    }
