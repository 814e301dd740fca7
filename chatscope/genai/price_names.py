"""Names of providers and models in the price table: exact rules, no similarity."""

import re
from collections.abc import Iterator
from typing import Final

# Other names of a provider, of the GenAI conventions and of common libraries.
_PROVIDERS: Final = {
    "amazon": "aws",
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_openai": "azure",
    "bedrock": "aws",
    "fireworks_ai": "fireworks",
    "fireworks-ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "moonshot_ai": "moonshotai",
    "together_ai": "together",
    "vertex_ai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
    "z_ai": "zai",
}
# Hosts, and the ends of hosts, of the providers' endpoints.
_HOSTS: Final = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.minimax.io": "minimax",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.moonshot.cn": "moonshotai",
    "api.novita.ai": "novita",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.voyageai.com": "voyageai",
    "api.x.ai": "x-ai",
    "api.z.ai": "zai",
    "inference.baseten.co": "baseten",
    "open.bigmodel.cn": "zhipuai",
    "openrouter.ai": "openrouter",
}
_HOST_ENDS: Final = {
    ".amazonaws.com": "aws",
    ".api.openai.com": "openai",  # of a region
    ".azure-api.net": "azure",
    ".cognitiveservices.azure.com": "azure",
    ".googleapis.com": "google",
    ".openai.azure.com": "azure",
    ".services.ai.azure.com": "azure",
}
# Where a request names no provider: those that make models of their own.
MAKERS: Final = ("openai", "anthropic", "google", "deepseek", "mistral", "x-ai", "cohere")
_MONTH: Final = r"(?:0[1-9]|1[0-2])"
_DAY: Final = r"(?:0[1-9]|[12]\d|3[01])"
_SNAPSHOT: Final = re.compile(
    rf"(?P<model>.+)(?:[-@]20\d\d(?:-{_MONTH}-{_DAY}|{_MONTH}{_DAY})|-latest)"
)


def provider_of(name: str | None, host: str | None) -> str | None:
    """Return the provider in the table: of the endpoint's host, else of the provider's name."""
    host = (host or "").lower()
    if found := _HOSTS.get(host):
        return found
    for end, provider in _HOST_ENDS.items():
        if host.endswith(end):
            return provider
    name = (name or "").strip().lower()
    return _PROVIDERS.get(name, name) or None


def spellings(model: str) -> Iterator[str]:
    """Yield the names of a model in the table, the most exact one first.

    `gpt-4o-2024-08-06` is a dated snapshot of `gpt-4o`; `gpt-4o-audio-preview` is another model.
    """
    name = model.lower().removeprefix("models/")
    yield name
    if snapshot := _SNAPSHOT.fullmatch(name):
        yield snapshot["model"]
