"""Base class of the simulated users: a client whose requests are reported to locust."""

import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from gevent import GreenletExit
from locust import User
from locust.exception import RescheduleTask

from demo import story
from demo.clients import STOPPED, Conversation, HttpClient, Identity, RequestError, Response
from demo.shared import DemoEnvironment

HTTP, SSE, WEBSOCKET = "HTTP", "SSE", "WebSocket"
TRANSPORTS = (HTTP, SSE, WEBSOCKET)
FIRST_TOKEN = "first token"  # noqa: S105

T = TypeVar("T")


_random = random.Random()


class DemoUser(User):
    """A user with its own client, who sends questions until the budget is spent.

    Each conversation is held as another member of the staff.
    """

    abstract = True
    environment: DemoEnvironment
    # Minimum and maximum pause between a response and the next question, in seconds.
    pause: tuple[float, float]

    def wait_time(self) -> float:
        """Return the length of the next pause in seconds."""
        return random.uniform(*self.pause) / self.environment.pace

    def on_start(self) -> None:
        """Prepare the client."""
        self.http = HttpClient(self.environment.url)
        self.begin_conversation()

    def on_stop(self) -> None:
        """Close the client, at the end or during a request."""
        self.http.close()

    def begin_conversation(self) -> story.User:
        """Begin a conversation as a random member of the staff."""
        self.user = _random.choice(story.USERS)
        session, conversation = (f"{kind}-{uuid.uuid4().hex[:12]}" for kind in ("s", "c"))
        user = self.user
        self.http.identity = Identity(user.id, session, conversation, user.api_key)
        return self.user

    def new_question(self) -> str:
        """Begin a conversation of one question."""
        return story.question(self.begin_conversation(), _random)

    def ask(
        self, transport: str, name: str, request: Callable[[], T], expected_error: str = ""
    ) -> T | None:
        """Send one question; end the task if the budget is spent."""
        if not self.environment.budget.take():
            raise RescheduleTask
        return self.send(transport, name, request, expected_error)

    def send(
        self, transport: str, name: str, request: Callable[[], T], expected_error: str = ""
    ) -> T | None:
        """Send a question that was taken from the budget, and report its outcome to locust.

        `expected_error`: the code of an expected error; any other outcome is a failure.
        """
        try:
            return self._measure(transport, name, request, expected_error)
        finally:
            self.environment.budget.ended()

    def _measure(
        self, transport: str, name: str, request: Callable[[], T], expected_error: str
    ) -> T | None:
        response, failure = None, None
        clock = time.perf_counter()
        try:
            response = request()
        except RequestError as error:
            failure = None if error.code == expected_error else error
        except GreenletExit:
            # The request was sent, so it counts.
            self._report(
                transport, name, time.perf_counter() - clock, failure=RequestError(STOPPED)
            )
            raise
        else:
            failure = RequestError(f"no_{expected_error}") if expected_error else None
        seconds = time.perf_counter() - clock
        length = len(response.text) if isinstance(response, Response) else 0
        self._report(transport, name, seconds, length, failure)
        if isinstance(response, Response) and response.first_token is not None:
            self._report(f"{transport} {FIRST_TOKEN}", name, response.first_token)
        if isinstance(response, Response):
            self._rate(response)
        return response

    def _rate(self, response: Response) -> None:
        """Rate some of the responses that have an ID and a text."""
        rating = story.rating(response.model, _random)
        if rating and response.id and response.text:
            # The service may be down; a missing rating is no failure of the demo.
            with suppress(RequestError):
                self.http.rate(response.id, *rating)

    def connect(self) -> Conversation:
        """Return a WebSocket connection; end the task without one, or if the budget is spent."""
        if self.environment.budget.is_spent:
            raise RescheduleTask
        url, identity = self.environment.url, self.http.identity
        connection = partial(Conversation, url, identity=identity)
        conversation = self._measure(WEBSOCKET, "connection", connection, expected_error="")
        if conversation is None:
            raise RescheduleTask
        return conversation

    def think(self) -> None:
        """Pause within a task; a stopped user ends here."""
        self.wait()  # type: ignore[no-untyped-call]

    def pick_model(self) -> str:
        """Return a random model for a chat."""
        return self.environment.models.chat(_random)

    def _report(
        self,
        transport: str,
        name: str,
        seconds: float,
        length: int = 0,
        failure: RequestError | None = None,
    ) -> None:
        self.environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type=transport,
            name=name,
            response_time=seconds * 1000,
            response_length=length,
            exception=failure,
            context={},
        )
