"""One chat through the service, and the proof that its three signals have arrived."""

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

PROMPT = "Say hello to whoever starts Chatscope."
FOUND_TIMEOUT_S = 20.0
METRIC = "llm_token_usage_total"


class FirstChatError(RuntimeError):
    """The service did not answer; the text has what the openai client said."""


@dataclass(frozen=True)
class Chat:
    """One answered chat; the duration in seconds."""

    model: str
    answer: str
    trace_id: str
    seconds: float


def prepare() -> None:
    """Begins to import the client, which takes a second: for while the parts start."""
    threading.Thread(target=import_module, args=("openai",), daemon=True).start()


def send(facts: Mapping[str, str], prompt: str = PROMPT) -> Chat:
    """Asks the first model of the service, streaming. Raises FirstChatError."""
    # Importing it takes a second, which the other commands need not wait for.
    import openai  # noqa: PLC0415

    # Loopback needs no key, and the person's own must not be sent by accident.
    with (
        local_client(timeout=60.0) as http,
        openai.OpenAI(
            base_url=f"{facts['APP_URL']}/v1", api_key="none", http_client=http, max_retries=0
        ) as client,
    ):
        try:
            return _ask(client, prompt)
        except openai.OpenAIError as error:
            raise FirstChatError(f"the service did not answer the first chat: {error}") from error


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
    """What to ask each store for this chat, by the name of its language."""
    return {
        # Tempo compares ids as it prints them, without leading zeros.
        "TraceQL": f'{{ trace:id = "{trace_id.lstrip("0")}" }}',
        "LogQL": f'{{service_name="chatscope"}} | trace_id="{trace_id}"',
        "PromQL": f"sum by (type) ({METRIC})",
    }


def prove(facts: Mapping[str, str], timeout: float = FOUND_TIMEOUT_S) -> Chat:
    """Sends one chat and returns once all three stores have it.

    Raises FirstChatError, or WaitError naming the store that does not have it.
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
    # Series by series: what an earlier run of the service left fades from the sum meanwhile.
    return any(value > before.get(series, 0.0) for series, value in now.items())
