"""Sends one chat through the service, and checks that all three signals arrive."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from stack.backends import Backends
from stack.local_http import local_client
from stack.waiting import poll_until

if TYPE_CHECKING:
    from openai import OpenAI

PROMPT = "Say hello to a new user of Chatscope."
FOUND_TIMEOUT_S = 20.0
METRIC = "llm_token_usage_total"


class FirstChatError(RuntimeError):
    """The service did not respond; the text is the openai client's error."""


@dataclass(frozen=True)
class Chat:
    """One completed chat; the duration in seconds."""

    model: str
    answer: str
    trace_id: str
    seconds: float


def prepare() -> None:
    """Import the client in the background, which takes a second, while the components start."""
    threading.Thread(target=import_module, args=("openai",), daemon=True).start()


def send(facts: Mapping[str, str], prompt: str = PROMPT) -> Chat:
    """Send a streaming request to the service's first model. Raises FirstChatError."""
    # The import takes a second, which other commands shall not spend.
    import openai  # noqa: PLC0415

    # Loopback needs no key, and the user's own must not be sent by accident.
    with (
        local_client(timeout=60.0) as http,
        openai.OpenAI(
            base_url=f"{facts['APP_URL']}/v1", api_key="none", http_client=http, max_retries=0
        ) as client,
    ):
        try:
            return _ask(client, prompt)
        except openai.OpenAIError as error:
            raise FirstChatError(
                f"no response of the service to the first chat: {error}"
            ) from error


def _ask(client: "OpenAI", prompt: str) -> Chat:
    model = next(iter(client.models.list())).id
    started = time.monotonic()
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True
    )
    answer = "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse() if chunk.choices)
    seconds = time.monotonic() - started
    return Chat(model, answer, raw.headers.get("x-trace-id", ""), seconds)


def queries(trace_id: str) -> dict[str, str]:
    """Return each backend's query for this chat, by query language."""
    return {
        # Tempo compares IDs in its own notation, without leading zeros.
        "TraceQL": f'{{ trace:id = "{trace_id.lstrip("0")}" }}',
        "LogQL": f'{{service_name="chatscope"}} | trace_id="{trace_id}"',
        "PromQL": f"sum by (type) ({METRIC})",
    }


def prove(facts: Mapping[str, str], timeout: float = FOUND_TIMEOUT_S) -> Chat:
    """Send one chat, and wait until all three backends have it.

    Raises FirstChatError, or WaitError naming the backend that does not have it.
    """
    with Backends(facts) as stores:
        before = _tokens(stores)
        chat = send(facts)
        logql = queries(chat.trace_id)["LogQL"]
        for check, what in (
            (lambda: stores.tempo_trace(chat.trace_id), f"trace {chat.trace_id} in Tempo"),
            (lambda: stores.loki(logql), f"log lines of trace {chat.trace_id} in Loki"),
            (lambda: _grown(before, _tokens(stores)), f"a higher {METRIC} in Prometheus"),
        ):
            poll_until(check, what, timeout)
    return chat


def _tokens(stores: Backends) -> dict[frozenset[tuple[str, str]], float]:
    return {frozenset(row.labels.items()): row.value for row in stores.prometheus(METRIC)}


def _grown(
    before: Mapping[frozenset[tuple[str, str]], float],
    now: Mapping[frozenset[tuple[str, str]], float],
) -> bool:
    # Compared per series: the sum may fall when the series of an earlier run end.
    return any(value > before.get(series, 0.0) for series, value in now.items())
