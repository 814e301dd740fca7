"""Recorders of model calls, embeddings, tools and agents, by the GenAI conventions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from chatscope.genai.answer import Answer
    from chatscope.genai.clients import instrument_clients, uninstrument_clients
    from chatscope.genai.feedback import Rating, record_feedback
    from chatscope.genai.handles import ModelCall
    from chatscope.genai.price_report import ServedModel, report_prices
    from chatscope.genai.pricing import Price, PriceTable, PriceTableError
    from chatscope.genai.recorder import Recorder as Recorder
    from chatscope.genai.recorder import forget_recorder as forget_recorder
    from chatscope.genai.recorder import use_recorder as use_recorder
    from chatscope.genai.recording import (
        current_call,
        embeddings,
        execute_tool,
        inference,
        invoke_agent,
        record_llm_response_time,
        record_message,
        record_retry,
        record_socket_connection,
        record_token_usage,
    )
    from chatscope.genai.request import ModelRequest, Usage
    from chatscope.genai.usage import merge_usage, read_usage

__all__ = [
    "Answer",
    "ModelCall",
    "ModelRequest",
    "Price",
    "PriceTable",
    "PriceTableError",
    "Rating",
    "ServedModel",
    "Usage",
    "current_call",
    "embeddings",
    "execute_tool",
    "inference",
    "instrument_clients",
    "invoke_agent",
    "merge_usage",
    "read_usage",
    "record_feedback",
    "record_llm_response_time",
    "record_message",
    "record_retry",
    "record_socket_connection",
    "record_token_usage",
    "report_prices",
    "uninstrument_clients",
]

# Beside the public names, those by which a configuration sets where recorders record to.
# Imported when they are first used: the SDK raises for some invalid variables while it is
# imported, and an application may want to check the variables first.
_MODULES: Final = {
    "Answer": "answer",
    "ModelCall": "handles",
    "ModelRequest": "request",
    "Price": "pricing",
    "PriceTable": "pricing",
    "PriceTableError": "pricing",
    "Rating": "feedback",
    "Recorder": "recorder",
    "ServedModel": "price_report",
    "Usage": "request",
    "current_call": "recording",
    "embeddings": "recording",
    "execute_tool": "recording",
    "forget_recorder": "recorder",
    "inference": "recording",
    "instrument_clients": "clients",
    "invoke_agent": "recording",
    "merge_usage": "usage",
    "read_usage": "usage",
    "record_feedback": "feedback",
    "record_llm_response_time": "recording",
    "record_message": "recording",
    "record_retry": "recording",
    "record_socket_connection": "recording",
    "record_token_usage": "recording",
    "report_prices": "price_report",
    "uninstrument_clients": "clients",
    "use_recorder": "recorder",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
