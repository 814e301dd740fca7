"""POST /v1/chat/completions."""

import time

from starlette.requests import Request

from app.chat.catalog import Catalog
from app.chat.parsing import check, parse_json
from app.chat.request import ChatRequest
from app.chat.turn import Turn
from app.http.admission import Admission, Admitted
from app.http.body import read_body
from app.http.outlets import TurnResponse
from app.settings import Settings
from chatscope.telemetry import Telemetry
from chatscope.tracing import step


class Completions:
    """Chat in the OpenAI wire format, streamed or in one piece."""

    def __init__(
        self, settings: Settings, catalog: Catalog, telemetry: Telemetry, admission: Admission
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._telemetry = telemetry
        self._admission = admission

    async def create(self, request: Request) -> Admitted:
        """Check the request and answer it."""
        started = time.perf_counter()
        settings = self._settings
        with self._admission.arrival():
            body = await read_body(
                request, settings.max_body_bytes, settings.receive_timeout_seconds
            )
        with step("validate"):
            chat = check(ChatRequest, parse_json(body), settings.request_limits)
            entry = self._catalog.find(chat.model)
            entry.check(chat)
        with step("history"):
            new_roles = chat.new_roles()
        chat = chat.model_copy(update={"model": entry.model})
        turn = Turn(entry=entry, request=chat, started=started, new_roles=new_roles)
        return Admitted(self._admission, TurnResponse(self._telemetry, turn))
