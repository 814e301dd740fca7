"""Who reaches the service at all: names that lead here, and what every response forbids pages."""

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.settings import Settings, SettingsError
from app.transport.response import SECURITY_HEADERS
from tests.memory import Memory
from tests.unit.transport.live import live

_PATHS = ["/", "/healthz", "/readyz", "/v1/models", "/ws/chat", "/favicon.ico"]
_PAID = {"OPENAI_API_KEY": "sk-1", "OPENAI_MODELS": "gpt-4o"}


async def _ask(port: int, request: bytes) -> tuple[int, dict[str, str]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().split("\r\n")
    writer.close()
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers


def _get(path: str, host: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\n\r\n".encode()


@pytest.mark.slow
@pytest.mark.anyio
async def test_page_under_a_name_that_leads_here_reaches_nothing(memory: Memory) -> None:
    async with live(memory, allowed_hosts=()) as service:
        host = f"evil.example:{service.port}"
        for path in _PATHS:
            status, _ = await _ask(service.port, _get(path, host))
            assert (path, status) == (path, 421)
        with pytest.raises(InvalidStatus) as refused:
            async with connect(
                f"ws://{host}/ws/chat",
                host="127.0.0.1",
                port=service.port,
                origin=f"http://{host}",  # type: ignore[arg-type]
            ):
                pass
        assert refused.value.response.status_code == 421
        status, _ = await _ask(service.port, _get("/readyz", f"localhost:{service.port}"))
        assert status == 200


@pytest.mark.slow
@pytest.mark.anyio
async def test_every_response_has_the_security_headers(memory: Memory) -> None:
    requests = {
        **{path: _get(path, "localhost") for path in _PATHS},
        "misdirected": _get("/", "evil.example"),
        "malformed": b"nonsense\r\n\r\n",
        "no such method": b"PUT / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "too large": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
    }
    async with live(memory, allowed_hosts=()) as service:
        for name, request in requests.items():
            _, headers = await _ask(service.port, request)
            found = {key: headers.get(key) for key in SECURITY_HEADERS}
            assert found == {k: v.lower() for k, v in SECURITY_HEADERS.items()}, name


@pytest.mark.parametrize(
    "environ",
    [
        {"HOST": "0.0.0.0"},  # noqa: S104
        {"HOST": "192.0.2.7"},
        {"HOST": "0.0.0.0", "PUBLISHED_HOST": "192.0.2.7"},  # noqa: S104
    ],
)
def test_published_service_with_a_providers_models_needs_keys(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="KEYS_FILE is required") as refused:
        Settings.read({**environ, **_PAID})
    assert "api.openai.com" in str(refused.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"HOST": "0.0.0.0"},  # noqa: S104
        _PAID,
        {**_PAID, "HOST": "localhost"},
        {**_PAID, "HOST": "0.0.0.0", "PUBLISHED_HOST": "127.0.0.1"},  # noqa: S104
        {**_PAID, "HOST": "0.0.0.0", "ALLOW_NO_KEYS": "true"},  # noqa: S104
        {**_PAID, "HOST": "0.0.0.0", "OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"},  # noqa: S104
    ],
)
def test_service_that_costs_others_nothing_starts_without_keys(environ: dict[str, str]) -> None:
    assert Settings.read(environ).keys_file is None


_TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("peers", "continued"), [(("127.0.0.0/8",), True), (("192.0.2.7",), False)]
)
async def test_trace_is_continued_for_trusted_peers_only(
    memory: Memory, peers: tuple[str, ...], continued: bool
) -> None:
    request = (
        "GET /v1/models HTTP/1.1\r\nhost: localhost\r\ntracestate: a=b\r\n"
        f"traceparent: 00-{_TRACE}-b7ad6b7169203331-01\r\n\r\n"
    )
    async with live(memory, trusted_peers=peers) as service:
        _, headers = await _ask(service.port, request.encode())
    assert (headers["x-trace-id"] == _TRACE) is continued


@pytest.mark.parametrize("peers", ["here", "10.0.0.0/33", "10.0.0.1/8"])
def test_what_is_no_network_is_refused(peers: str) -> None:
    with pytest.raises(SettingsError, match="neither an address nor a network"):
        Settings.read({"TRUSTED_PEERS": peers})
