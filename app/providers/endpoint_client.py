"""The official client for an endpoint of MODELS_FILE."""

from typing import Any, Final

import httpx2
from openai import AsyncOpenAI

from app.providers.endpoint import Endpoint
from app.providers.http_client import TracedClient

_OF_THE_CLIENT: Final = ("authorization", "api-key", "openai-organization", "openai-project")


class _HttpClient(TracedClient):
    """Sends the endpoint's own header with the key, or none.

    The official client always sends `Authorization`, and the organization and project of its
    environment to every endpoint.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.base_url)
        self._of_endpoint = endpoint.all_headers

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send one attempt."""
        for name in _OF_THE_CLIENT:
            request.headers.pop(name, None)
        request.headers.update(self._of_endpoint)
        return await super().send(request, **options)


def build_client(endpoint: Endpoint) -> AsyncOpenAI:
    """Return a client of the endpoint, which its user must close."""
    return AsyncOpenAI(
        base_url=endpoint.root,
        default_query=endpoint.parameters,
        timeout=httpx2.Timeout(endpoint.timeout, connect=endpoint.connect_timeout),
        max_retries=endpoint.max_retries,
        http_client=_HttpClient(endpoint),
        # Required by the client, and replaced by the headers of the endpoint.
        api_key="none",
    )
