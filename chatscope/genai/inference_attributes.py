"""Attributes of a model call in the GenAI conventions: of its request, its tokens and its texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.util.types import AttributeValue

from chatscope import names
from chatscope.attributes import known
from chatscope.genai.content import (
    input_messages,
    output_messages,
    system_instructions,
    tool_definitions,
)
from chatscope.genai.request import ModelRequest, Usage


def request_attributes(request: ModelRequest) -> dict[str, AttributeValue]:
    """Return the attributes of a request, without its texts."""
    several = request.choice_count if request.choice_count != 1 else None
    return known(
        {
            names.GEN_AI_OPERATION_NAME: request.operation,
            names.GEN_AI_PROVIDER_NAME: request.provider,
            names.GEN_AI_REQUEST_MODEL: request.model,
            names.GEN_AI_REQUEST_STREAM: request.stream,
            names.SERVER_ADDRESS: request.server_address,
            names.SERVER_PORT: request.server_port,
            **identity_attributes(request),
            names.GEN_AI_PROMPT_NAME: request.prompt_name,
            names.GEN_AI_PROMPT_VERSION: request.prompt_version,
            names.GEN_AI_OUTPUT_TYPE: request.output_type,
            names.GEN_AI_REQUEST_CHOICE_COUNT: several,
            names.GEN_AI_REQUEST_REASONING_LEVEL: request.reasoning_level,
            names.GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID: request.previous_response_id,
            names.GEN_AI_REQUEST_TEMPERATURE: request.temperature,
            names.GEN_AI_REQUEST_TOP_P: request.top_p,
            names.GEN_AI_REQUEST_TOP_K: request.top_k,
            names.GEN_AI_REQUEST_MAX_TOKENS: request.max_tokens,
            names.GEN_AI_REQUEST_SEED: request.seed,
            names.GEN_AI_REQUEST_FREQUENCY_PENALTY: request.frequency_penalty,
            names.GEN_AI_REQUEST_PRESENCE_PENALTY: request.presence_penalty,
            **request.attributes,
        }
    )


def identity_attributes(request: ModelRequest) -> dict[str, AttributeValue | None]:
    """Return who asked, in which conversation: for spans and log records, never for metrics."""
    return {
        names.GEN_AI_CONVERSATION_ID: request.conversation_id,
        names.SESSION_ID: request.session_id,
        names.USER_ID: request.user_id,
    }


def usage_attributes(usage: Usage) -> dict[str, AttributeValue | None]:
    """Return the token counts of a response; None for those that were not reported."""
    return {
        names.GEN_AI_USAGE_INPUT_TOKENS: usage.prompt_tokens,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: usage.completion_tokens,
        names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: usage.cache_read_tokens,
        names.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: usage.cache_write_tokens,
        names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: usage.reasoning_tokens,
        names.GEN_AI_USAGE_AUDIO_INPUT_TOKENS: usage.audio_input_tokens,
        names.GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS: usage.audio_output_tokens,
        names.GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS: usage.audio_cache_read_tokens,
        names.GEN_AI_USAGE_IMAGE_INPUT_TOKENS: usage.image_input_tokens,
        names.GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS: usage.image_output_tokens,
        names.USAGE_PARTIAL: usage.partial or None,
    }


def input_contents(request: ModelRequest) -> dict[str, AttributeValue]:
    """Return the texts of a request: instructions, messages, tools and stop sequences."""
    found: dict[str, AttributeValue] = {
        names.GEN_AI_INPUT_MESSAGES: input_messages(request.messages)
    }
    if request.system_instructions:
        instructions = system_instructions(request.system_instructions)
        found[names.GEN_AI_SYSTEM_INSTRUCTIONS] = instructions
    if request.tools:
        found[names.GEN_AI_TOOL_DEFINITIONS] = tool_definitions(request.tools)
    if request.stop:
        found[names.GEN_AI_REQUEST_STOP_SEQUENCES] = request.stop
    return found


def output_contents(
    text: str, finish_reason: str | None, output: Sequence[Mapping[str, Any]]
) -> dict[str, AttributeValue]:
    """Return the texts of a response."""
    return {names.GEN_AI_OUTPUT_MESSAGES: output_messages(text, finish_reason, output)}
