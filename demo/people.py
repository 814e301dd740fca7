"""The kinds of people who chat, as locust's users."""

import random
from functools import partial
from itertools import cycle

from gevent.pool import Pool
from locust import task

from demo.asking import Message
from demo.person import HTTP, SSE, WEBSOCKET, Person

# They ask for little, lest a model that costs money is asked for much.
_QUESTIONS = (
    "In one sentence: what can a trace tell that a log line cannot?",
    "Name three things that make an answer slow.",
    "What is a token? Keep it short.",
    "How would I find the most expensive answer of today, in a sentence or two?",
    "Give me one good reason to sample traces, and one against it.",
    "Explain the 95th percentile to a child, in two sentences.",
    "What should an alert say? One line.",
    "Which question should I have asked first?",
)


class QuickAsker(Person):
    """Asks, waits for the whole answer, thinks for a moment."""

    pause = (2, 6)

    @task
    def question(self) -> None:
        """One question without history."""
        messages, model = [_user(_question())], self.pick_model()
        self.ask(HTTP, "quick question", partial(self.http.ask, messages, model))


class Reader(Person):
    """Reads the answer as it comes."""

    pause = (3, 8)

    @task
    def question(self) -> None:
        """One streamed answer."""
        messages, model = [_user(_question())], self.pick_model()
        self.ask(SSE, "read as it comes", partial(self.http.stream, messages, model))


class Talker(Person):
    """Talks over one connection for a while, then comes back with another."""

    pause = (3, 8)

    @task
    def conversation(self) -> None:
        """Some questions, until one is not answered."""
        model = self.pick_model()
        with self.connect() as conversation:
            for _ in range(random.randint(2, 8)):
                if not self.ask(WEBSOCKET, "talk", partial(conversation.ask, _question(), model)):
                    return
                self.think()


class Impatient(Person):
    """Has seen enough halfway."""

    pause = (5, 12)

    def on_start(self) -> None:
        """Once this way, once that way."""
        super().on_start()
        self._ways = cycle((self._hang_up, self._call_off))

    @task
    def half_an_answer(self) -> None:
        """Leaves after some pieces."""
        next(self._ways)(random.randint(1, 15))

    def _hang_up(self, pieces: int) -> None:
        messages, model = [_user(_question())], self.pick_model()
        self.ask(SSE, "hang up halfway", partial(self.http.stream, messages, model, pieces))

    def _call_off(self, pieces: int) -> None:
        question, model = _question(), self.pick_model()
        with self.connect() as conversation:
            self.ask(
                WEBSOCKET, "call off halfway", partial(conversation.ask, question, model, pieces)
            )


class Researcher(Person):
    """Asks on and on, and sends all that was said each time."""

    pause = (2, 5)

    @task
    def inquiry(self) -> None:
        """One long conversation, until a question is not answered."""
        model = self.pick_model()
        said: list[Message] = [{"role": "system", "content": "Be brief."}]
        for _ in range(random.randint(6, 12)):
            said.append(_user(_question()))
            answer = self.ask(SSE, "long conversation", partial(self.http.stream, said, model))
            if not (answer and answer.text):
                return
            said.append({"role": "assistant", "content": answer.text})
            self.think()


class Burster(Person):
    """Asks several things at the same time now and then."""

    pause = (15, 30)

    @task
    def burst(self) -> None:
        """All at once, and all answers awaited."""
        count = self.environment.budget.take(random.randint(3, 6))
        pool = Pool()
        try:
            for _ in range(count):
                pool.spawn(self._one)
            pool.join()
        finally:
            pool.kill()

    def _one(self) -> None:
        messages, model = [_user(_question())], self.pick_model()
        self.tell(HTTP, "one of a burst", partial(self.http.ask, messages, model))


class Newcomer(Person):
    """Gets it wrong, each time in another way, and is told so."""

    pause = (8, 20)

    def on_start(self) -> None:
        """The mistakes, in turn."""
        super().on_start()
        self._mistakes = cycle(
            (self._wrong_model, self._too_hot, self._no_question, self._unknown_word)
        )

    @task
    def mistake(self) -> None:
        """The next one."""
        next(self._mistakes)()

    def _wrong_model(self) -> None:
        messages = [_user(_question())]
        self.ask(
            HTTP,
            "wrong model",
            partial(self.http.ask, messages, "no-such-model"),
            "model_not_found",
        )

    def _too_hot(self) -> None:
        messages, model = [_user(_question())], self.pick_model()
        self.ask(
            HTTP, "bad temperature", partial(self.http.ask, messages, model, 9), "invalid_request"
        )

    def _no_question(self) -> None:
        model = self.pick_model()
        self.ask(SSE, "no question", partial(self.http.stream, [], model), "invalid_request")

    def _unknown_word(self) -> None:
        with self.connect() as conversation:
            self.ask(
                WEBSOCKET,
                "unknown type",
                partial(conversation.say, {"type": "shout"}),
                "unknown_type",
            )


# The first three have all ways in, so that even three people use each of them.
KINDS: tuple[type[Person], ...] = (
    QuickAsker, Reader, Talker, Impatient, Researcher, Burster, Newcomer,
)  # fmt: skip


def _question() -> str:
    return random.choice(_QUESTIONS)


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
