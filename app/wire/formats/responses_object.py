"""The response object of the Responses format, built from blocks."""

import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from app.response_id import new_response_id
from app.wire.formats.base import Json
from app.wire.formats.blocks import Block, BlockReader, Kind, objects
from chatscope.genai import Usage

_ID_PREFIXES: Final = {
    Kind.REASONING: "rs",
    Kind.TEXT: "msg",
    Kind.REFUSAL: "msg",
    Kind.TOOL_CALL: "fc",
}
# OpenAI's value of a token that is not among the most likely ones; others send -Infinity.
_UNLIKELY: Final = -9999.0
_INCOMPLETE_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponseObject:
    """One response at any moment; all its objects have the same ID, time and parameters."""

    def __init__(self, model: str, parameters: Json, *, summary: bool) -> None:
        """`parameters`: those of the request that a response repeats; `summary`: whether
        reasoning is sent as its summary."""
        self.reader = BlockReader()
        self.summary = summary
        self._is_failed = False
        response_id = new_response_id("resp_")
        self._suffix = response_id.removeprefix("resp_")
        self._shared: Json = {
            "id": response_id,
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            **parameters,
        }

    def describe(self, completion: Mapping[str, Any]) -> None:
        """Take the model, time and service tier of a completion or its first chunk."""
        for name, kind, known in (
            ("model", str, "model"),
            ("created", int, "created_at"),
            ("service_tier", str, "service_tier"),
        ):
            if isinstance(value := completion.get(name), kind) and value:
                self._shared[known] = value

    @property
    def incomplete_reason(self) -> str | None:
        """Why the response is incomplete; None if it is complete."""
        return _INCOMPLETE_REASONS.get(self.reader.finish_reason or "")

    def in_progress(self) -> Json:
        """Return the object at its start."""
        return self._render("in_progress", output=[], usage=None)

    def ended(self) -> Json:
        """Return the object of a response that the model has ended."""
        if reason := self.incomplete_reason:
            return self._render("incomplete", incomplete_details={"reason": reason})
        return self._render("completed", completed_at=int(time.time()))

    def failed(self, code: str, message: str) -> Json:
        """Return the object of a response that an error has ended."""
        self._is_failed = True
        return self._render("failed", error={"code": code, "message": message})

    def status_of(self, block: Block) -> str:
        """Return the status of a block that has finished: only the last one may be incomplete."""
        is_cut = self._is_failed or self.incomplete_reason is not None
        return "incomplete" if is_cut and block is self.reader.blocks[-1] else "completed"

    def _render(self, status: str, **fields: Any) -> Json:
        usage = self.reader.usage
        return {
            **self._shared,
            "status": status,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "output": [self.item(block, self.status_of(block)) for block in self.reader.blocks],
            "usage": _usage(usage) if usage else None,
            **fields,
        }

    def item_id(self, block: Block) -> str:
        """Return the ID of the output item, which is the same in all events."""
        return f"{_ID_PREFIXES[block.kind]}_{self._suffix}{block.index}"

    def item(self, block: Block, status: str, *, empty: bool = False) -> Json:
        """Return the output item; `empty`: as it is when it starts."""
        base = {"id": self.item_id(block), "status": status}
        parts = [] if empty else [self.part(block)]
        match block.kind:
            case Kind.TOOL_CALL:
                return {
                    **base,
                    "type": "function_call",
                    "call_id": block.call_id,
                    "name": block.name,
                    "arguments": "" if empty else block.text,
                }
            case Kind.REASONING:
                summary, content = (parts, []) if self.summary else ([], parts)
                return {**base, "type": "reasoning", "summary": summary, "content": content}
            case _:
                return {**base, "type": "message", "role": "assistant", "content": parts}

    def part(self, block: Block, *, empty: bool = False) -> Json:
        """Return the content part of a block that is not a tool call."""
        text = "" if empty else block.text
        match block.kind:
            case Kind.REASONING:
                return {"type": "summary_text" if self.summary else "reasoning_text", "text": text}
            case Kind.REFUSAL:
                return {"type": "refusal", "refusal": text}
        annotations = [] if empty else [annotation(each) for each in block.annotations]
        return {
            "type": "output_text",
            "text": text,
            "annotations": annotations,
            "logprobs": [] if empty else [logprob(each) for each in block.logprobs],
        }


def annotation(given: Mapping[str, Any]) -> Json:
    """Return an annotation, whose fields chat completions have one level deeper."""
    kind = given.get("type")
    inner = given.get(kind) if isinstance(kind, str) else None
    return {"type": kind, **inner} if isinstance(inner, dict) else dict(given)


def logprob(given: Mapping[str, Any]) -> Json:
    """Return the log probability of a token, with its bytes, which some providers leave out."""
    top = [_token(each) for each in objects(given.get("top_logprobs"))]
    return {**_token(given), "top_logprobs": top}


def _token(given: Mapping[str, Any]) -> Json:
    token, value, octets = given.get("token"), given.get("logprob"), given.get("bytes")
    text = token if isinstance(token, str) else ""
    return {
        "token": text,
        "bytes": octets if isinstance(octets, list) else list(text.encode("utf-8", "replace")),
        "logprob": value if _is_number(value) else _UNLIKELY,
    }


def _is_number(value: object) -> bool:
    # False for NaN, and no conversion of an integer that is too large for a float.
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.total_tokens,
    }
