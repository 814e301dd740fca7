"""Kinds of simulated users, as locust's users."""

import random
from functools import partial
from itertools import cycle

from gevent import sleep
from gevent.pool import Pool
from locust import task
from locust.exception import RescheduleTask

from chatscope import execute_tool, invoke_agent
from demo import story
from demo.base_user import HTTP, SSE, WEBSOCKET, DemoUser
from demo.clients import Message, Response, ToolCall

_random = random.Random()


class QuickAsker(DemoUser):
    """Sends a question, waits for the whole response, pauses."""

    pause = (2, 6)

    @task
    def question(self) -> None:
        """Send one question without history; retry once without a response."""
        messages, model = [_user(self.new_question())], self.pick_model()
        if not self.ask(HTTP, "quick question", partial(self.http.ask, messages, model)):
            self.think()
            self.ask(HTTP, "retry", partial(self.http.ask, messages, model))


class Reader(DemoUser):
    """Reads streamed responses."""

    pause = (3, 8)

    @task
    def question(self) -> None:
        """Request one streamed response."""
        messages, model = [_user(self.new_question())], self.pick_model()
        self.ask(SSE, "streamed", partial(self.http.stream, messages, model))


class Talker(DemoUser):
    """Has a conversation on one connection, then starts another one."""

    pause = (3, 8)

    @task
    def conversation(self) -> None:
        """Send several questions, until one gets no response."""
        questions, model = story.conversation(self.begin_conversation(), _random), self.pick_model()
        with self.connect() as conversation:
            for each in questions:
                if not self.ask(WEBSOCKET, "conversation", partial(conversation.ask, each, model)):
                    return
                self.think()


class Impatient(DemoUser):
    """Aborts responses halfway."""

    pause = (5, 12)

    def on_start(self) -> None:
        """Alternate between disconnecting and cancelling."""
        super().on_start()
        self._aborts = cycle((self._disconnect, self._cancel))

    @task
    def half_an_answer(self) -> None:
        """Abort after some chunks."""
        next(self._aborts)(random.randint(1, 15))

    def _disconnect(self, chunks: int) -> None:
        messages, model = [_user(self.new_question())], self.pick_model()
        self.ask(SSE, "disconnect", partial(self.http.stream, messages, model, chunks))

    def _cancel(self, chunks: int) -> None:
        question, model = self.new_question(), self.pick_model()
        with self.connect() as conversation:
            self.ask(WEBSOCKET, "cancel", partial(conversation.ask, question, model, chunks))


class Researcher(DemoUser):
    """Has long conversations, and sends the whole history with each question."""

    pause = (2, 5)

    @task
    def inquiry(self) -> None:
        """Send questions about two topics in one conversation, until one gets no response."""
        user, model = self.begin_conversation(), self.pick_model()
        messages: list[Message] = [
            {"role": "system", "content": "You assist the staff of a web shop."}
        ]
        for each in (
            *story.conversation(user, _random),
            *story.conversation(user, _random),
        ):
            messages.append(_user(each))
            response = self.ask(
                SSE, "long conversation", partial(self.http.stream, messages, model)
            )
            if not (response and response.text):
                return
            messages.append({"role": "assistant", "content": response.text})
            self.think()


class Burster(DemoUser):
    """Sends several questions concurrently, at long intervals."""

    pause = (15, 30)

    @task
    def burst(self) -> None:
        """Send all of them at once, and wait for all responses."""
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
        self.send(HTTP, "one of a burst", partial(self.http.ask, messages, model))


class Newcomer(DemoUser):
    """Sends invalid requests, in turn, and expects the errors."""

    pause = (8, 20)

    def on_start(self) -> None:
        """Prepare the invalid requests."""
        super().on_start()
        self._mistakes = cycle(
            (self._unknown_model, self._invalid_temperature, self._no_messages, self._unknown_type)
        )

    @task
    def mistake(self) -> None:
        """Send the next one."""
        next(self._mistakes)()

    def _unknown_model(self) -> None:
        messages = [_user(self.new_question())]
        self.ask(
            HTTP,
            "unknown model",
            partial(self.http.ask, messages, "no-such-model"),
            "model_not_found",
        )

    def _invalid_temperature(self) -> None:
        messages, model = [_user(self.new_question())], self.pick_model()
        self.ask(
            HTTP, "bad temperature", partial(self.http.ask, messages, model, 9), "invalid_request"
        )

    def _no_messages(self) -> None:
        model = self.pick_model()
        self.ask(SSE, "no messages", partial(self.http.stream, [], model), "invalid_request")

    def _unknown_type(self) -> None:
        with self.connect() as conversation:
            self.ask(
                WEBSOCKET,
                "unknown type",
                partial(conversation.send_frame, {"type": "shout"}),
                "unknown_type",
            )


class Agent(DemoUser):
    """Lets the model call tools, and sends it their results."""

    pause = (3, 8)

    @task
    def errand(self) -> None:
        """Send one question, call the requested tools, and send their results."""
        user, model = self.begin_conversation(), self.pick_model()
        messages: list[Message] = [_user(story.tool_question(_random))]
        first = partial(self.http.ask, messages, model, tools=list(story.TOOLS))
        if not self.environment.budget.take():
            raise RescheduleTask
        conversation = self.http.identity.conversation
        with invoke_agent(f"{user.team} agent", conversation_id=conversation) as agent:
            response = self.send(HTTP, "question with tools", first)
            if response and response.tool_calls:
                messages += [_called(response), *map(_result, response.tool_calls)]
                # Without a question left, the agent ends here.
                if self.environment.budget.take():
                    response = self.send(
                        HTTP, "result of tools", partial(self.http.ask, messages, model)
                    )
            if not response:
                agent.failed("no_answer")


class Clerk(DemoUser):
    """Creates tickets from customers' messages."""

    pause = (4, 9)

    @task
    def ticket(self) -> None:
        """Request one ticket as JSON."""
        self.begin_conversation()
        messages, model = [_user(story.complaint(_random))], self.pick_model()
        question = partial(self.http.ask, messages, model, response_format=story.TICKET)
        self.ask(HTTP, "ticket as JSON", question)


class Searcher(DemoUser):
    """Searches the shop's documents by embeddings."""

    pause = (3, 8)

    @task
    def search(self) -> None:
        """Request embeddings of the documents and of the search."""
        self.begin_conversation()
        texts, model = [story.search(_random), *story.DOCUMENTS], self.environment.models
        self.ask(HTTP, "search", partial(self.http.embed, texts, model.embedding(_random)))


class Analyst(DemoUser):
    """Sends whole reports to the largest models, in the last minute of every five."""

    pause = (3, 6)

    @task
    def analysis(self) -> None:
        """Send a long prompt at the peak, a question otherwise."""
        user = self.begin_conversation()
        if self.environment.is_peak:
            text, name = story.report(_random), "long report"
        else:
            text, name = story.question(user, _random), "short report"
        model = self.environment.models.large(_random)
        self.ask(SSE, name, partial(self.http.stream, [_user(text)], model))


# The first three use all transports, so that a demo with three users covers each of them.
KINDS: tuple[type[DemoUser], ...] = (
    QuickAsker, Reader, Talker, Impatient, Researcher, Burster, Newcomer,
    Agent, Clerk, Searcher, Analyst,
)  # fmt: skip


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _called(response: Response) -> Message:
    return {
        "role": "assistant",
        "content": response.text or None,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in response.tool_calls
        ],
    }


def _result(call: ToolCall) -> Message:
    """Run a tool; a failure is returned to the model as its result."""
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
