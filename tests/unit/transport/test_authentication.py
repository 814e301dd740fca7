"""API keys over HTTP and WebSocket, and the budgets they are charged to."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from app.keys import clients
from app.keys.file import Key, KeysFile, Limits
from app.keys.keyring import digest_of
from app.transport.authentication import KEY_SUBPROTOCOL, SUBPROTOCOL
from chatscope import names
from tests.memory import Memory
from tests.unit.process import process, served
from tests.unit.scripted import END, Scripted
from tests.unit.transport.live import URL, Live, live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

_QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def _keys(*entries: Mapping[str, Any]) -> KeysFile:
    """Return keys; each is its own name."""
    return KeysFile(keys=[Key(sha256=digest_of(entry["name"]).hex(), **entry) for entry in entries])


_ALICE = _keys({"name": "alice"})


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _client(service: Live) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://{service.address}")


async def _post(service: Live, headers: Mapping[str, str], **body: Any) -> httpx2.Response:
    async with _client(service) as client:
        return await client.post(URL, json={**_QUESTION, **body}, headers=dict(headers))


@pytest.mark.parametrize(
    "headers",
    [
        *({}, _bearer("wrong"), {"authorization": "Bearer"}, {"authorization": "Basic YWxpY2U6"}),
        *({"x-api-key": "wrong"}, {"api-key": ""}, {**_bearer("alice"), "api-key": "bob"}),
    ],
)
async def test_request_without_a_valid_key_is_refused(
    memory: Memory, headers: dict[str, str]
) -> None:
    provider = Scripted("hello", END)
    async with live(memory, provider, keys_file=_ALICE) as service:
        answer = await _post(service, headers)
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert error["trace_id"] == answer.headers["x-trace-id"]
    assert not provider.requests
    assert "wrong" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        *(_bearer("alice"), {"authorization": "bearer  alice"}),
        *({"x-api-key": "alice"}, {"api-key": "alice"}, {**_bearer("alice"), "api-key": "alice"}),
    ],
)
async def test_key_is_accepted_in_the_header_of_each_official_client(
    memory: Memory, headers: dict[str, str]
) -> None:
    async with live(memory, Scripted("hello", END), keys_file=_ALICE) as service:
        answer = await _post(service, headers)
    assert answer.status_code == 200, answer.text
    [span] = [span for span in memory.spans if span.name == f"POST {URL}"]
    assert span.attributes is not None
    assert span.attributes[names.KEY_NAME] == "alice"


@pytest.mark.parametrize("over", ["http", "websocket"])
async def test_record_of_a_response_has_the_name_and_the_team_of_its_key(
    memory: Memory, over: str
) -> None:
    keys = _keys({"name": "alice", "team": "search"})
    async with live(memory, Scripted("hello", END), keys_file=keys) as service:
        if over == "http":
            await _post(service, _bearer("alice"))
        else:
            async with connect(service.socket_url, additional_headers=_bearer("alice")) as socket:
                await socket.send(json.dumps({"type": "message", "content": "hello"}))
                while json.loads(await socket.recv())["type"] != "done":
                    pass
    record = memory.log("answer completed").log_record.attributes or {}
    assert (record[names.KEY_NAME], record[names.KEY_TEAM]) == ("alice", "search")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        (_bearer("cs-demo-support"), "support-assistant"),
        *((headers, None) for headers in ({}, _bearer("none"), {"x-api-key": "cs-demo-nobody"})),
        ({**_bearer("cs-demo-support"), "api-key": "cs-demo-sales"}, None),
    ],
)
async def test_key_of_the_demo_names_its_team_and_none_is_needed(
    memory: Memory, headers: dict[str, str], key: str | None
) -> None:
    async with live(memory, Scripted("hello", END), demo_providers=True) as service:
        answer = await _post(service, headers)
    assert answer.status_code == 200, answer.text
    record = memory.log("answer completed").log_record.attributes or {}
    assert record.get(names.KEY_NAME) == key


async def test_all_of_the_api_needs_a_key_and_nothing_else_does(memory: Memory) -> None:
    expected = {
        **dict.fromkeys(("/", "/healthz", "/readyz"), 200),
        **dict.fromkeys(("/v1", "/v1/", "/v1/models", "/v1/models/x", "/v1/x", "/ws/chat"), 401),
    }
    async with live(memory, keys_file=_ALICE) as service, _client(service) as client:
        found = {path: (await client.get(path)).status_code for path in expected}
    assert found == expected


async def test_preflight_request_needs_no_key(memory: Memory) -> None:
    origin = "https://a.example"
    headers = {"origin": origin, "access-control-request-method": "POST"}
    async with (
        live(memory, keys_file=_ALICE, frontend_url=(origin,)) as service,
        _client(service) as client,
    ):
        assert (await client.options(URL, headers=headers)).status_code == 200
        refused = await client.post(URL, headers={"origin": origin})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == origin


async def test_key_is_limited_to_its_scopes(memory: Memory) -> None:
    keys = _keys(
        {"name": "reader", "scopes": ["models"]}, {"name": "caller", "scopes": ["inference"]}
    )
    provider = Scripted("hello", END)
    async with live(memory, provider, keys_file=keys) as service, _client(service) as client:
        found = {}
        for key in ("reader", "caller"):
            listed = await client.get("/v1/models", headers=_bearer(key))
            called = await client.post(URL, headers=_bearer(key), json=_QUESTION)
            found[key] = listed.status_code, called.status_code
            refused = called if key == "reader" else listed
            assert refused.json()["error"]["code"] == "insufficient_scope"
    assert found == {"reader": (200, 403), "caller": (403, 200)}


@pytest.mark.parametrize("offered", [[], [SUBPROTOCOL], [SUBPROTOCOL, f"{KEY_SUBPROTOCOL}wrong"]])
async def test_handshake_without_a_valid_key_is_refused(memory: Memory, offered: list[str]) -> None:
    async with live(memory, Scripted("hello", END), keys_file=_ALICE) as service:
        with pytest.raises(InvalidStatus) as caught:
            await connect(service.socket_url, subprotocols=[Subprotocol(each) for each in offered])
    assert caught.value.response.status_code == 401
    assert json.loads(caught.value.response.body)["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("options", "selected"),
    [
        ({"additional_headers": _bearer("alice")}, None),
        ({"subprotocols": [SUBPROTOCOL, f"{KEY_SUBPROTOCOL}alice"]}, SUBPROTOCOL),
    ],
)
async def test_key_of_a_websocket_is_in_a_header_or_a_subprotocol(
    memory: Memory, options: dict[str, Any], selected: str | None
) -> None:
    async with (
        live(memory, Scripted("hello", END), keys_file=_ALICE) as service,
        connect(service.socket_url, **options) as socket,
    ):
        assert socket.subprotocol == selected
        assert "alice" not in str(socket.response and socket.response.headers)
        await socket.send(json.dumps({"type": "message", "content": "hello"}))
        assert json.loads(await socket.recv())["type"] == "delta"


async def test_call_beyond_the_budget_is_refused_until_midnight(memory: Memory) -> None:
    keys = _keys({"name": "alice", "limits": Limits(tokens_per_day=5)}, {"name": "bob"})
    provider = Scripted("hello", END)  # 5 tokens
    async with live(memory, provider, keys_file=keys) as service:
        assert (await _post(service, _bearer("alice"))).status_code == 200
        refused = await _post(service, _bearer("alice"), stream=True)
        assert (await _post(service, _bearer("bob"))).status_code == 200
        points = {
            (point.attributes[names.KEY_NAME], point.attributes[names.BUDGET_UNIT]): point.value
            for point in memory.points(names.BUDGET_USED.name)
        }
        limits = [
            (point.attributes[names.KEY_NAME], point.attributes[names.BUDGET_UNIT], point.value)
            for point in memory.points(names.BUDGET_LIMIT.name)
        ]
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("budget_exceeded", "rate_limit_error")
    assert "key 'alice' is used up: 5 tokens of 5 tokens. It resets at" in error["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 86_400
    assert len(provider.requests) == 2
    assert {key: value for key, value in points.items() if key[1] == "token"} == {
        ("alice", "token"): 5,
        ("bob", "token"): 5,
    }
    assert limits == [("alice", "token", 5)]


async def test_user_of_a_request_has_a_budget(memory: Memory) -> None:
    keys = _keys({"name": "alice", "user_limits": Limits(tokens_per_day=5)})
    async with live(memory, Scripted("hello", END), keys_file=keys) as service:
        found = [
            (await _post(service, _bearer("alice"), user=user)).status_code
            for user in ("eve", "eve", "mallory")
        ]
    assert found == [200, 429, 200]
    assert "eve" not in str([point.attributes for point in memory.points(names.BUDGET_USED.name)])


async def test_user_of_a_handshake_has_a_budget(memory: Memory) -> None:
    keys = _keys({"name": "alice", "user_limits": Limits(tokens_per_day=5)})
    async with live(memory, Scripted("a", END), keys_file=keys) as service:
        for user, ends in (("u", ["done", "error"]), ("v", ["done"])):
            headers = {**_bearer("alice"), "x-user-id": user}
            async with connect(service.socket_url, additional_headers=headers) as socket:
                for end in ends:
                    await socket.send('{"type": "message", "content": "hello"}')
                    while (kind := json.loads(await socket.recv())["type"]) == "delta":
                        pass
                    assert kind == end


async def test_message_beyond_the_budget_ends_with_an_error(memory: Memory) -> None:
    keys = _keys({"name": "alice", "limits": Limits(tokens_per_day=5)})
    async with live(memory, Scripted("hello", END), keys_file=keys) as service:
        headers = _bearer("alice")
        async with connect(service.socket_url, additional_headers=headers) as socket:
            types = []
            for _ in range(2):
                await socket.send(json.dumps({"type": "message", "content": "hello"}))
                while (message := json.loads(await socket.recv()))["type"] == "delta":
                    pass
                types.append(message)
    assert [message["type"] for message in types] == ["done", "error"]
    assert types[1]["error"]["code"] == "budget_exceeded"


async def test_failed_call_costs_nothing(memory: Memory) -> None:
    keys = _keys({"name": "alice", "limits": Limits(tokens_per_day=1)})
    provider = Scripted(RuntimeError("a bug"))
    async with live(memory, provider, keys_file=keys) as service:
        statuses = [(await _post(service, _bearer("alice"))).status_code for _ in range(2)]
    assert statuses == [500, 500]


def _entries(*names: str) -> str:
    return "".join(
        f'[[keys]]\nname = "{name}"\nsha256 = "{digest_of(name).hex()}"\n' for name in names
    )


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _until_reported(memory: Memory, times: int) -> None:
    """Wait until so many changes of the file have been reported as invalid."""

    async def reported() -> bool:
        bodies = [str(record.log_record.body) for record in memory.logs]
        return sum("is invalid" in body for body in bodies) == times

    await _until(reported)


async def test_keys_are_replaced_without_a_restart(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "LOOK_SECONDS", 0.02)
    file = tmp_path / "keys.toml"
    file.write_text(_entries("old"))
    keys = KeysFile.read(file)

    async with (
        live(memory, Scripted("hello", END), keys_file=keys) as service,
        connect(service.socket_url, additional_headers=_bearer("old")) as socket,
    ):

        async def status(key: str) -> int:
            return (await _post(service, _bearer(key))).status_code

        async def new_is_accepted() -> bool:
            return await status("new") == 200

        async def old_is_refused() -> bool:
            return await status("old") == 401

        file.write_text(_entries("old", "new"))
        await _until(new_is_accepted)
        assert await status("old") == 200
        file.write_text("[[keys]]\nname = 1\n")
        await _until_reported(memory, 1)
        file.unlink()
        await _until_reported(memory, 2)
        assert (await status("old"), await status("new")) == (200, 200)
        file.write_text(_entries("new"))
        await _until(old_is_refused)
        # The connection that it has opened is of no use any more.
        await socket.send(json.dumps({"type": "message", "content": "hello"}))
        refused = json.loads(await socket.recv())
    assert refused["error"]["code"] == "invalid_api_key"


async def test_change_between_reading_the_file_and_the_start_is_found(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "LOOK_SECONDS", 0.02)
    file = tmp_path / "keys.toml"
    file.write_text(_entries("old"))
    keys = KeysFile.read(file)
    file.write_text(_entries("new"))
    async with live(memory, Scripted("hello", END), keys_file=keys) as service:

        async def new_is_accepted() -> bool:
            return (await _post(service, _bearer("new"))).status_code == 200

        await _until(new_is_accepted)


async def test_limits_that_workers_do_not_share_are_no_valid_change(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "LOOK_SECONDS", 0.02)
    file = tmp_path / "keys.toml"
    file.write_text(_entries("alice"))
    keys = KeysFile.read(file)
    async with live(memory, Scripted("hello", END), keys_file=keys, workers=2) as service:
        file.write_text(f"{_entries('bob')}limits = {{ tokens_per_day = 5 }}\n")
        await _until_reported(memory, 1)
        assert (await _post(service, _bearer("alice"))).status_code == 200
        assert (await _post(service, _bearer("bob"))).status_code == 401


_FILE = f"""
[[keys]]
name = "alice"
sha256 = "{digest_of("cs-alice").hex()}"
limits = {{ tokens_per_day = 20 }}
"""


@pytest.mark.slow
def test_workers_share_budgets_that_survive_a_restart(tmp_path: Path) -> None:
    keys, budgets = tmp_path / "keys.toml", tmp_path / "state" / "budgets.sqlite"
    keys.write_text(_FILE)
    quick = {"SIMULATED_TOKENS_PER_SECOND": "0", "SIMULATED_FIRST_TOKEN_SECONDS": "0"}
    environ = {"KEYS_FILE": str(keys), "BUDGETS_FILE": str(budgets), "WORKERS": "2", **quick}

    def refused(process_url: str) -> str:
        """Ask until the budget is used up; return the code."""
        client = openai.OpenAI(base_url=f"{process_url}/v1", api_key="cs-alice")
        messages: Any = _QUESTION["messages"]
        for _ in range(20):
            try:
                client.chat.completions.create(model="simulated-1", messages=messages)
            except openai.RateLimitError as error:
                return str(error.code)
        raise AssertionError("never refused")

    with process(**environ) as started:
        assert refused(served(started)) == "budget_exceeded"
        started.terminate()
        started.communicate(timeout=30)
    with closing(sqlite3.connect(budgets)) as connection:
        [(before,)] = connection.execute("SELECT amount FROM used WHERE unit = 'token'").fetchall()
    assert before >= 20
    with process(**environ) as started:
        url = served(started)
        answer = httpx2.post(f"{url}{URL}", json=_QUESTION, headers=_bearer("cs-alice"), timeout=20)
        assert answer.status_code == 429, answer.text
        assert httpx2.post(f"{url}{URL}", json=_QUESTION, timeout=20).status_code == 401
