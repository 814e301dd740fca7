"""Attributes as OpenTelemetry accepts them, without None; identifiers of clients and providers
have at most 256 characters."""

from collections.abc import Mapping
from typing import Final

from opentelemetry.util.types import AttributeValue

from chatscope import names

# Clients and providers choose these, so nothing else limits their size.
MAX_IDENTIFIER: Final = 256
MAX_PATH: Final = 1024
_IDENTIFIERS: Final = frozenset(
    {
        names.ERROR_TYPE,
        names.GEN_AI_AGENT_ID,
        names.GEN_AI_AGENT_NAME,
        names.GEN_AI_CONVERSATION_ID,
        names.GEN_AI_OPERATION_NAME,
        names.GEN_AI_OUTPUT_TYPE,
        names.GEN_AI_PROMPT_NAME,
        names.GEN_AI_PROMPT_VERSION,
        names.GEN_AI_PROVIDER_NAME,
        names.GEN_AI_REQUEST_MODEL,
        names.GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID,
        names.GEN_AI_REQUEST_REASONING_LEVEL,
        names.GEN_AI_RESPONSE_FINISH_REASONS,
        names.GEN_AI_RESPONSE_ID,
        names.GEN_AI_RESPONSE_MODEL,
        names.GEN_AI_TOOL_CALL_ID,
        names.GEN_AI_TOOL_NAME,
        names.GEN_AI_TOOL_TYPE,
        names.KEY_NAME,
        names.PROVIDER_ERROR_CODE,
        names.REQUESTED_MODEL,
        names.SERVER_ADDRESS,
        names.SESSION_ID,
        names.USER_ID,
    }
)


def known(found: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    """Return the attributes whose values are not None; identifiers are shortened."""
    return {
        name: bounded(value) if name in _IDENTIFIERS else value
        for name, value in found.items()
        if value is not None
    }


def bounded(value: AttributeValue) -> AttributeValue:
    """Return an identifier, or a list of them, with at most MAX_IDENTIFIER characters each."""
    if isinstance(value, str):
        return value[:MAX_IDENTIFIER]
    if isinstance(value, list | tuple):
        return [each[:MAX_IDENTIFIER] for each in value if isinstance(each, str)]
    return value
