"""Rate limits by key and address, over real connections."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from app.keys.file import KeysFile
from app.transport.rate import RateLimiter
from app.wire.errors import HttpError
from tests.memory import Memory
from tests.unit.serving import quick
from tests.unit.transport.live import live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

_PATHS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
    "/v1/messages": {
        "model": "simulated-1",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 1,
    },
    "/v1/responses": {"input": "hi", "max_output_tokens": 1},
}


@asynccontextmanager
async def _client(memory: Memory, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        live(memory, **settings) as service,
        httpx2.AsyncClient(
            base_url=f"http://{service.address}", trust_env=False, timeout=30
        ) as client,
    ):
        yield client


def _keys(tmp_path: Path) -> KeysFile:
    path = tmp_path / "keys.toml"
    path.write_text(
        "".join(
            f'[[keys]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
            for name in ("alice", "bob")
        )
    )
    return KeysFile.read(path)


@pytest.mark.parametrize("path", _PATHS)
async def test_address_above_its_rate_gets_429_in_the_format_of_the_path(
    memory: Memory, path: str
) -> None:
    async with _client(memory, rate_limit_per_address="2/hour") as client:
        responses = [await client.post(path, json=_PATHS[path]) for _ in range(3)]
        assert [each.status_code for each in responses] == [200, 200, 429]
        error = responses[2].json()["error"]
        assert "The rate limit of your address is 2 requests per 3600 s" in error["message"]
        assert 3590 <= int(responses[2].headers["retry-after"]) <= 3601
        # The page and the health checks are not counted.
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_each_key_has_a_rate_of_its_own(memory: Memory, tmp_path: Path) -> None:
    async with _client(memory, rate_limit_per_key="1/hour", keys_file=_keys(tmp_path)) as client:
        codes = []
        for key in ("alice", "alice", "bob", "alice"):
            headers = {"authorization": f"Bearer {key}"}
            response = await client.get("/v1/models", headers=headers)
            codes.append(response.status_code)
    assert codes == [200, 429, 200, 429]


async def test_guesses_of_keys_count_for_the_address(memory: Memory, tmp_path: Path) -> None:
    async with _client(
        memory, rate_limit_per_address="2/hour", keys_file=_keys(tmp_path)
    ) as client:
        codes = [
            (await client.get("/v1/models", headers={"x-api-key": str(guess)})).status_code
            for guess in range(3)
        ]
    assert codes == [401, 401, 429]


async def test_message_over_websocket_counts_as_a_request(memory: Memory) -> None:
    async with (
        live(memory, rate_limit_per_address="2/hour") as service,
        connect(f"ws://{service.address}/ws/chat") as socket,
    ):
        kinds = []
        for _ in range(2):
            await socket.send(json.dumps({"type": "message", "content": "hi"}))
            while True:
                message = json.loads(await socket.recv())
                if message["type"] in ("done", "error"):
                    kinds.append((message["type"], message.get("error", message).get("code")))
                    break
    assert kinds[0][0] == "done"
    assert kinds[1] == ("error", "rate_limit_exceeded")


async def test_several_rates_hold_at_once() -> None:
    limiter = RateLimiter(None, "2/second; 3/hour")
    for _ in range(2):
        await limiter.check_address("a")
    with pytest.raises(HttpError, match="2 requests per 1 s"):
        await limiter.check_address("a")
    await limiter.check_address("b")


@pytest.mark.parametrize("rates", ["many", "0", "5/fortnight", "-1/second"])
def test_what_is_no_rate_is_refused(rates: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        quick(rate_limit_per_key=rates)
