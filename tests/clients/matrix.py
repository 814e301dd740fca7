"""What is tested with each client and provider; docs/api.md shows it as two tables."""

from collections.abc import Mapping
from typing import Final

CLIENTS: Final[Mapping[str, str]] = {
    "curl": "curl",
    "openai-python": "`openai` (Python)",
    "openai-node": "`openai` (Node)",
    "anthropic-python": "`anthropic` (Python)",
    "anthropic-node": "`@anthropic-ai/sdk`",
    "ai-sdk": "Vercel AI SDK",
    "langchain": "LangChain",
    "litellm": "LiteLLM",
}
FEATURES: Final[Mapping[str, str]] = {
    "chat": "chat, whole response",
    "stream": "chat, streamed",
    "stream_usage": "usage of a stream",
    "tools": "tool call",
    "tools_stream": "parallel tool calls, streamed",
    "structured": "JSON schema",
    "image": "image",
    "reasoning": "reasoning",
    "choices": "several choices (`n`)",
    "logprobs": "log probabilities",
    "embeddings": "embeddings",
    "responses": "`/v1/responses`",
    "responses_stream": "`/v1/responses`, streamed",
    "messages": "`/v1/messages`",
    "text_completion": "`/v1/completions`, whole and streamed",
    "models": "list of models",
    "invalid_request": "error 400",
    "rate_limit": "error 429",
    "stream_error": "error within a stream",
    "authentication": "error 401",
}
_OPENAI_ONLY: Final = frozenset(
    {
        *("choices", "logprobs", "embeddings", "responses", "responses_stream"),
        *("text_completion", "models"),
    }
)
# Features that a client cannot request or show.
LACKING: Final[Mapping[str, frozenset[str]]] = {
    "curl": frozenset(),
    "openai-python": frozenset({"messages"}),
    "openai-node": frozenset({"messages"}),
    "anthropic-python": _OPENAI_ONLY,
    "anthropic-node": _OPENAI_ONLY,
    "ai-sdk": frozenset({"choices", "messages", "models"}),
    "langchain": frozenset({"messages", "models"}),
    "litellm": frozenset({"models"}),
}
CELLS: Final = tuple(
    (client, feature)
    for client in CLIENTS
    for feature in FEATURES
    if feature not in LACKING[client]
)

PROVIDERS: Final[Mapping[str, str]] = {
    "azure": "Azure OpenAI",
    "vllm": "vLLM",
    "ollama": "Ollama",
    "llama_cpp": "llama.cpp",
    "mistral": "Mistral",
    "groq": "Groq",
    "deepseek": "DeepSeek",
    "gemini": "Gemini",
    "openrouter": "OpenRouter",
}
RESPONSES: Final[Mapping[str, str]] = {
    "text": "text and usage, streamed",
    "tools": "tool calls, streamed",
    "reasoning": "reasoning, streamed",
    "whole": "whole response",
    "refused": "refusal of the request",
    "limited": "rate limit or overload",
    "stream_error": "failure within a stream",
}
