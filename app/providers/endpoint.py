"""The address of a provider, and the headers and parameters that its requests have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

OPENAI: Final = "openai"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible endpoint.

    `azure` selects Azure OpenAI's form of URLs; `api_version` is its `api-version` parameter.
    Timeouts in seconds; `timeout` is the longest silence of the endpoint in one attempt.
    """

    name: str = OPENAI  # gen_ai.provider.name
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    connect_timeout: float = 5.0
    max_retries: int = 2
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    organization: str | None = None
    project: str | None = None
    azure: Literal["deployments", "v1"] | None = None
    api_version: str | None = None

    @property
    def root(self) -> str:
        """The URL to which paths such as `/chat/completions` are added, without a slash."""
        base = self.base_url.rstrip("/")
        if self.azure is None:
            return base
        resource = base.removesuffix("/openai/v1").removesuffix("/openai")
        return f"{resource}/openai/v1" if self.azure == "v1" else f"{resource}/openai"

    @property
    def parameters(self) -> dict[str, str]:
        """The query parameters of each request."""
        version = {"api-version": self.api_version} if self.api_version else {}
        return {**version, **self.query}

    @property
    def authentication(self) -> dict[str, str]:
        """The header that has the key."""
        if self.api_key is None:
            return {}
        if self.azure:
            return {"api-key": self.api_key}
        return {"authorization": f"Bearer {self.api_key}"}

    @property
    def all_headers(self) -> dict[str, str]:
        """The headers of each request; those that the operator has set take precedence."""
        openai = {"openai-organization": self.organization, "openai-project": self.project}
        return {
            **self.authentication,
            **{name: value for name, value in openai.items() if value},
            **{name.lower(): value for name, value in self.headers.items()},
        }
