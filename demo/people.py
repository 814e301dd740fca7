"""The kinds of people who chat, as locust's users."""

import random
from functools import partial
from itertools import cycle

from gevent import sleep
from gevent.pool import Pool
from locust import task
from locust.exception import RescheduleTask

from chatscope import execute_tool, invoke_agent
from demo import story
from demo.asking import Answer, Message, ToolCall
from demo.person import HTTP, SSE, WEBSOCKET, Person

_random = random.Random()


class QuickAsker(Person):
    """Asks, waits for the whole answer, thinks for a moment."""

    pause = (2, 6)

    @task
    def question(self) -> None:
        """One question without history; where there is no answer, once more."""
        messages, model = [_user(self.new_question())], self.pick_model()
        if not self.ask(HTTP, "quick question", partial(self.http.ask, messages, model)):
            self.think()
            self.ask(HTTP, "asked again", partial(self.http.ask, messages, model))


class Reader(Person):
    """Reads the answer as it comes."""

    pause = (3, 8)

    @task
    def question(self) -> None:
        """One streamed answer."""
        messages, model = [_user(self.new_question())], self.pick_model()
        self.ask(SSE, "read as it comes", partial(self.http.stream, messages, model))


class Talker(Person):
    """Talks over one connection for a while, then comes back with another."""

    pause = (3, 8)

    @task
    def conversation(self) -> None:
        """Some questions, until one is not answered."""
        questions, model = story.conversation(self.begin(), _random), self.pick_model()
        with self.connect() as conversation:
            for each in questions:
                if not self.ask(WEBSOCKET, "talk", partial(conversation.ask, each, model)):
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
        messages, model = [_user(self.new_question())], self.pick_model()
        self.ask(SSE, "hang up halfway", partial(self.http.stream, messages, model, pieces))

    def _call_off(self, pieces: int) -> None:
        question, model = self.new_question(), self.pick_model()
        with self.connect() as conversation:
            self.ask(
                WEBSOCKET, "call off halfway", partial(conversation.ask, question, model, pieces)
            )


class Researcher(Person):
    """Asks on and on, and sends all that was said each time."""

    pause = (2, 5)

    @task
    def inquiry(self) -> None:
        """Two topics in one conversation, until a question is not answered."""
        somebody, model = self.begin(), self.pick_model()
        said: list[Message] = [{"role": "system", "content": "You assist the staff of a web shop."}]
        for each in (
            *story.conversation(somebody, _random),
            *story.conversation(somebody, _random),
        ):
            said.append(_user(each))
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
        messages, model = [_user(self.new_question())], self.pick_model()
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
        messages = [_user(self.new_question())]
        self.ask(
            HTTP,
            "wrong model",
            partial(self.http.ask, messages, "no-such-model"),
            "model_not_found",
        )

    def _too_hot(self) -> None:
        messages, model = [_user(self.new_question())], self.pick_model()
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


class Agent(Person):
    """Lets the model call tools, and has it tell what they found."""

    pause = (3, 8)

    @task
    def errand(self) -> None:
        """One question, the tools that it needs, and the answer."""
        somebody, model = self.begin(), self.pick_model()
        said: list[Message] = [_user(story.tool_question(_random))]
        first = partial(self.http.ask, said, model, tools=list(story.TOOLS))
        if not self.environment.budget.take():
            raise RescheduleTask
        conversation = self.http.identity.conversation
        with invoke_agent(f"{somebody.team} agent", conversation_id=conversation) as agent:
            answer = self.tell(HTTP, "question with tools", first)
            if answer and answer.tool_calls:
                said += [_called(answer), *map(_result, answer.tool_calls)]
                # Where no question is left the agent has done what it can.
                if self.environment.budget.take():
                    answer = self.tell(HTTP, "result of tools", partial(self.http.ask, said, model))
            if not answer:
                agent.failed("no_answer")


class Clerk(Person):
    """Makes tickets of customers' messages."""

    pause = (4, 9)

    @task
    def ticket(self) -> None:
        """One message, as JSON."""
        self.begin()
        messages, model = [_user(story.complaint(_random))], self.pick_model()
        question = partial(self.http.ask, messages, model, response_format=story.TICKET)
        self.ask(HTTP, "ticket as JSON", question)


class Searcher(Person):
    """Searches the documents of the shop."""

    pause = (3, 8)

    @task
    def search(self) -> None:
        """The documents and the search as vectors."""
        self.begin()
        texts, model = [story.search(_random), *story.DOCUMENTS], self.environment.models
        self.ask(HTTP, "search", partial(self.http.embed, texts, model.embedding(_random)))


class Analyst(Person):
    """Pastes whole reports into the largest models, in the last minute of every five."""

    pause = (3, 6)

    @task
    def analysis(self) -> None:
        """A long prompt at the peak, a question otherwise."""
        somebody = self.begin()
        if self.environment.is_peak:
            text, name = story.report(_random), "long report"
        else:
            text, name = story.question(somebody, _random), "short report"
        model = self.environment.models.large(_random)
        self.ask(SSE, name, partial(self.http.stream, [_user(text)], model))


# The first three have all ways in, so that even three people use each of them.
KINDS: tuple[type[Person], ...] = (
    QuickAsker, Reader, Talker, Impatient, Researcher, Burster, Newcomer,
    Agent, Clerk, Searcher, Analyst,
)  # fmt: skip


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _called(answer: Answer) -> Message:
    return {
        "role": "assistant",
        "content": answer.text or None,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.tool_calls
        ],
    }


def _result(call: ToolCall) -> Message:
    """Run a tool; one that fails says so to the model."""
    try:
        with execute_tool(
            call.name, call_id=call.id, type="function", arguments=call.arguments
        ) as tool:
            sleep(random.uniform(0.02, 0.2))
            result = story.call_tool(call.name, call.arguments, _random)
            tool.result(result)
    except story.ToolError as error:
        result = f"error: {error}"
    return {"role": "tool", "tool_call_id": call.id, "content": result}
