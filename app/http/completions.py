"""POST /v1/chat/completions."""

import time

from starlette.requests import Request

from app.chat.catalog import Catalog
from app.chat.parsing import check, parse_json
from app.chat.request import ChatRequest
from app.chat.turn import Turn
from app.http.body import read_body
from app.http.outlets import TurnResponse
from app.settings import Settings
from app.telemetry.instrument import Telemetry
from app.telemetry.tracing import step


class Completions:
    """Chat in the OpenAI wire format, streamed or in one piece."""

    def __init__(self, settings: Settings, catalog: Catalog, telemetry: Telemetry) -> None:
        self._settings = settings
        self._catalog = catalog
        self._telemetry = telemetry

    async def create(self, request: Request) -> TurnResponse:
        """Check the request and answer it."""
        started = time.perf_counter()
        body = await read_body(request, self._settings.max_body_bytes)
        with step("validate"):
            limits = {"max_message_chars": self._settings.max_message_chars}
            chat = check(ChatRequest, parse_json(body), limits)
            entry = self._catalog.find(chat.model)
        with step("history"):
            new_roles = chat.new_roles()
        chat = chat.model_copy(update={"model": entry.model})
        turn = Turn(entry=entry, request=chat, started=started, new_roles=new_roles)
        return TurnResponse(self._telemetry, turn)
