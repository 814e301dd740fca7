"""API keys of clients: who may call, in which header, and what their calls are charged to."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.keys.budgets import BudgetExceeded
from app.keys.clients import KnownClients
from app.keys.file import Key
from app.keys.file import Scope as KeyScope
from app.transport.rate import hit_key, hit_message
from app.wire.errors import HttpError
from chatscope import names
from chatscope.genai import Usage

# A browser cannot set headers of a WebSocket, and URLs appear in logs and histories: it sends
# these two subprotocols, of which the server selects the first.
SUBPROTOCOL: Final = "chatscope.v1"
KEY_SUBPROTOCOL: Final = "chatscope.key."
_SUBPROTOCOLS: Final = b"sec-websocket-protocol"
# Of OpenAI's, Azure's and Anthropic's clients.
_KEY_HEADERS: Final = (b"api-key", b"x-api-key")
_SOCKET: Final = "/ws/chat"
_CALLER: Final = "app.caller"

Charge = Callable[[Usage | None, float | None], None]


class Caller:
    """The client of one request, which has presented a key."""

    def __init__(self, key: Key, clients: KnownClients) -> None:
        self.key = key
        self._clients = clients

    async def admit(self, user: str | None = None) -> Charge:
        """Return the function that counts the usage and cost of the call when it has ended.

        Raise HttpError: 429 if a budget is used up, 401 if the key was removed after a WebSocket
        connection was opened with it.
        """
        budgets, key = self._clients.budgets, self._clients.keyring.current(self.key)
        if key is None:
            raise _unauthorized("The API key is no longer valid.")
        try:
            await budgets.check(key, user)
        except BudgetExceeded as exceeded:
            raise _budget_error(exceeded, budgets.seconds_until_reset()) from None

        def charge(usage: Usage | None, cost: float | None) -> None:
            budgets.charge(key, user, tokens=usage.total_tokens if usage else 0, usd=cost)

        return charge


async def admit(scope: Scope, user: str | None = None) -> Charge:
    """Check the budget of a request's key and return what charges it; nothing without keys."""
    caller = scope.get(_CALLER)
    return await caller.admit(user) if isinstance(caller, Caller) else _charge_nobody


async def count_message(scope: Scope) -> None:
    """Count a message of a WebSocket connection. Raise HttpError, 429, above a rate."""
    await hit_message(scope, key_name(scope))


def key_name(scope: Scope) -> str | None:
    """Return the name of a request's key; None without one."""
    caller = scope.get(_CALLER)
    return caller.key.name if isinstance(caller, Caller) else None


def caller_attributes(scope: Scope) -> Mapping[str, str]:
    """Return the name and the team of a request's key, for spans and log records."""
    caller = scope.get(_CALLER)
    return _key_attributes(caller.key) if isinstance(caller, Caller) else {}


class Authentication:
    """Refuses requests to /v1 and WebSocket handshakes without a valid key, if one is required.

    Must be inside of CORS: a preflight request has no key. The chat page and the health endpoints
    are open.
    """

    def __init__(self, app: ASGIApp, clients: KnownClients) -> None:
        self._app = app
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request. Raise HttpError with status 401, 403 or 429."""
        if scope["type"] in ("http", "websocket") and _is_protected(scope["path"]):
            if key := self._authenticate(scope):
                _check_scope(key, scope)
                await hit_key(scope, key.name)
                scope[_CALLER] = Caller(key, self._clients)
                _record(key)
            if scope["type"] == "websocket":
                send = _select_subprotocol(scope, send)
        await self._app(scope, receive, send)

    def _authenticate(self, scope: Scope) -> Key | None:
        presented = list(_presented(scope))
        if not self._clients.required:
            # Clients of OpenAI's send some key, always.
            return self._clients.find(presented[0]) if len(set(presented)) == 1 else None
        if not presented:
            raise _unauthorized(
                "This service requires an API key: send it in the header 'Authorization: Bearer "
                "KEY', 'x-api-key' or 'api-key'; over WebSocket from a browser as the subprotocol "
                f"'{KEY_SUBPROTOCOL}KEY' beside '{SUBPROTOCOL}'."
            )
        if len(set(presented)) > 1:
            raise _unauthorized("The request has different API keys; send one.")
        key = self._clients.find(presented[0])
        if key is None:
            raise _unauthorized("The API key is invalid.")
        return key


def _is_protected(path: str) -> bool:
    return path == "/v1" or path.startswith(("/v1/", _SOCKET))


def _presented(scope: Scope) -> Iterable[str]:
    """Yield each key in the request."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").strip().partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                yield token.strip()
        elif name in _KEY_HEADERS and value.strip():
            yield value.decode("latin-1").strip()
    for protocol in scope.get("subprotocols") or ():
        if protocol.startswith(KEY_SUBPROTOCOL):
            yield protocol.removeprefix(KEY_SUBPROTOCOL)


def _check_scope(key: Key, scope: Scope) -> None:
    is_read = scope["type"] == "http" and scope["path"].startswith("/v1/models")
    needed: KeyScope = "models" if is_read else "inference"
    if needed not in key.scopes:
        raise HttpError(
            403,
            f"The API key '{key.name}' does not have the scope '{needed}'.",
            code="insufficient_scope",
        )


def _record(key: Key) -> None:
    trace.get_current_span().set_attributes(_key_attributes(key))


def _key_attributes(key: Key) -> dict[str, str]:
    team = {names.KEY_TEAM: key.team} if key.team else {}
    return {names.KEY_NAME: key.name, **team}


def _select_subprotocol(scope: Scope, send: Send) -> Send:
    """Remove the key from the offered subprotocols; return a `send` that selects ours."""
    offered = scope.get("subprotocols") or []
    if not any(protocol.startswith(KEY_SUBPROTOCOL) for protocol in offered):
        return send
    scope["subprotocols"] = [each for each in offered if not each.startswith(KEY_SUBPROTOCOL)]
    scope["headers"] = [header for header in scope["headers"] if header[0] != _SUBPROTOCOLS]
    selected = SUBPROTOCOL if SUBPROTOCOL in offered else None

    async def select(message: Message) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message = {**message, "subprotocol": selected}
        await send(message)

    return select


def _unauthorized(message: str) -> HttpError:
    return HttpError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def _budget_error(exceeded: BudgetExceeded, seconds: int) -> HttpError:
    # Official clients would repeat the call at once.
    headers = {"retry-after": str(seconds), "x-should-retry": "false"}
    return HttpError(429, exceeded.message, code="budget_exceeded", headers=headers)


def _charge_nobody(usage: Usage | None, cost: float | None) -> None:
    """Count nothing: there are no keys."""
