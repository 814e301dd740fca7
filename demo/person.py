"""What all people have in common: a client, and that locust hears of what they do."""

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
from demo.asking import STOPPED, Answer, AskError, Conversation, HttpClient, Identity
from demo.shared import DemoEnvironment

HTTP, SSE, WEBSOCKET = "HTTP", "SSE", "WebSocket"
WAYS = (HTTP, SSE, WEBSOCKET)
FIRST_TOKEN = "first token"  # noqa: S105

T = TypeVar("T")


_random = random.Random()


class Person(User):
    """Somebody with a client of their own, who asks as long as questions are left.

    In each conversation it is another one of the staff.
    """

    abstract = True
    environment: DemoEnvironment
    # Seconds from an answer to the next question: no less, no more.
    pause: tuple[float, float]

    def wait_time(self) -> float:
        """How long the next pause is."""
        return random.uniform(*self.pause) / self.environment.pace

    def on_start(self) -> None:
        """Before the first question."""
        self.http = HttpClient(self.environment.url)
        self.begin()

    def on_stop(self) -> None:
        """After the last one, or amid one."""
        self.http.close()

    def begin(self) -> story.User:
        """Begin a conversation as somebody of the staff."""
        self.somebody = _random.choice(story.USERS)
        session, conversation = (f"{kind}-{uuid.uuid4().hex[:12]}" for kind in ("s", "c"))
        somebody = self.somebody
        self.http.identity = Identity(somebody.id, session, conversation, somebody.api_key)
        return self.somebody

    def new_question(self) -> str:
        """Begin a conversation of one question."""
        return story.question(self.begin(), _random)

    def ask(self, way: str, name: str, question: Callable[[], T], refusal: str = "") -> T | None:
        """Ask one question; where none is left the task is over."""
        if not self.environment.budget.take():
            raise RescheduleTask
        return self.tell(way, name, question, refusal)

    def tell(self, way: str, name: str, question: Callable[[], T], refusal: str = "") -> T | None:
        """Ask a question taken from the budget, and report its outcome to locust.

        Where a `refusal` is expected, by its code, any other outcome is a failure.
        """
        try:
            return self._measure(way, name, question, refusal)
        finally:
            self.environment.budget.ended()

    def _measure(self, way: str, name: str, question: Callable[[], T], refusal: str) -> T | None:
        answer, failure = None, None
        clock = time.perf_counter()
        try:
            answer = question()
        except AskError as error:
            failure = None if error.code == refusal else error
        except GreenletExit:
            # It was sent, so it counts.
            self._report(way, name, time.perf_counter() - clock, failure=AskError(STOPPED))
            raise
        else:
            failure = AskError(f"no_{refusal}") if refusal else None
        seconds = time.perf_counter() - clock
        length = len(answer.text) if isinstance(answer, Answer) else 0
        self._report(way, name, seconds, length, failure)
        if isinstance(answer, Answer) and answer.first_token is not None:
            self._report(f"{way} {FIRST_TOKEN}", name, answer.first_token)
        if isinstance(answer, Answer):
            self._rate(answer)
        return answer

    def _rate(self, answer: Answer) -> None:
        """Rate some of the responses that have an ID and a text."""
        rating = story.rating(answer.model, _random)
        if rating and answer.id and answer.text:
            # The service may be gone; a rating more or less is no failure of the demo.
            with suppress(AskError):
                self.http.rate(answer.id, *rating)

    def connect(self) -> Conversation:
        """Return a WebSocket connection; without one, or without questions, the task is over."""
        if self.environment.budget.is_spent:
            raise RescheduleTask
        url, identity = self.environment.url, self.http.identity
        connection = partial(Conversation, url, identity=identity)
        conversation = self._measure(WEBSOCKET, "connection", connection, refusal="")
        if conversation is None:
            raise RescheduleTask
        return conversation

    def think(self) -> None:
        """Pause amid a task; who is told to stop stops here."""
        self.wait()  # type: ignore[no-untyped-call]

    def pick_model(self) -> str:
        """One of those that may be asked."""
        return self.environment.models.chat(_random)

    def _report(
        self,
        way: str,
        name: str,
        seconds: float,
        length: int = 0,
        failure: AskError | None = None,
    ) -> None:
        self.environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type=way,
            name=name,
            response_time=seconds * 1000,
            response_length=length,
            exception=failure,
            context={},
        )
