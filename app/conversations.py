"""Conversations of WebSocket clients in the shared store: a client continues one on another
replica, or after a restart."""

import hashlib
import json
from collections.abc import Sequence
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

from app.settings import Settings
from app.shared_store import PREFIX, SharedStore
from app.transport.large import unblocked

# The question and the response, oldest first.
Turns = list[tuple[str, str]]

_TURNS: Final = TypeAdapter(Turns)


class SharedConversations:
    """Conversations by their ID and by who had them: the API key and the user.

    Without a key and a user, everyone who knows the ID can continue the conversation.
    """

    def __init__(self, store: SharedStore, seconds: float) -> None:
        """`seconds`: how long a conversation is kept after its last turn."""
        self._store = store
        self._seconds = max(1, int(seconds))

    @classmethod
    def of(cls, settings: Settings, store: SharedStore | None) -> Self | None:
        """Return the conversations; None if they are not shared."""
        if store is None or not settings.shared_conversations:
            return None
        return cls(store, settings.socket_idle_seconds)

    async def load(self, key: str | None, user: str | None, conversation: str) -> Turns | None:
        """Return the turns of a conversation; None if there are none, or the server does not
        respond."""
        name = _name(key, user, conversation)
        found = await self._store.ask(lambda: self._store.client.get(name), None)
        if found is None:
            return None
        try:
            return await unblocked(len(found), lambda: _TURNS.validate_json(found))
        except ValidationError:  # not written by this service
            return None

    async def save(
        self, key: str | None, user: str | None, conversation: str, turns: Sequence[tuple[str, str]]
    ) -> None:
        """Store the turns of a conversation, in place of those before; never raise."""
        name = _name(key, user, conversation)
        size = sum(len(question) + len(response) for question, response in turns)
        text = await unblocked(size, lambda: _TURNS.dump_json(list(turns)))
        await self._store.ask(lambda: self._store.client.set(name, text, ex=self._seconds), None)


def _name(key: str | None, user: str | None, conversation: str) -> str:
    """Return the key of a conversation, which contains neither its ID nor its owner."""
    owner = json.dumps([key, user, conversation]).encode()
    return f"{PREFIX}conversation:{hashlib.sha256(owner).hexdigest()}"
