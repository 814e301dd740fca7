"""Texts of the demo: the staff of a web shop, and their questions to its assistant."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

SERVICE: Final = "shop-assistant"


@dataclass(frozen=True)
class User:
    """A member of the staff."""

    name: str
    team: str

    @property
    def id(self) -> str:
        """The user ID in telemetry."""
        return f"{self.name}@{self.team}"

    @property
    def api_key(self) -> str:
        """The key of the team, which is public (app/demo_keys.toml)."""
        return f"cs-demo-{self.team}"


_TEAMS: Final = {
    "support": ("ana", "ben", "chloe", "david"),
    "sales": ("emma", "farid", "grace", "hugo"),
    "engineering": ("ines", "jonas", "kira", "liam"),
}
USERS: Final = tuple(User(name, team) for team, names in _TEAMS.items() for name in names)

# Conversations of several turns, by team.
_CONVERSATIONS: Final[Mapping[str, Sequence[Sequence[str]]]] = {
    "support": (
        (
            "Hello, a customer asks about order {order}.",
            "Where is the parcel at the moment?",
            "It is already late. Can she get a refund?",
            "How long does the refund take?",
            "Please write a short summary of this conversation.",
        ),
        (
            "A customer wants to return headphones. What are the steps?",
            "The box is damaged. Is a refund still possible?",
            "What does he pay for the delivery?",
        ),
    ),
    "sales": (
        (
            "Hi! Which lamp do you recommend for a small desk?",
            "How does its price compare with the larger product?",
            "Is the delivery possible this week in {city}?",
            "Thanks! Please summarize the offer in a few points.",
        ),
        (
            "Summarize last month's sales report.",
            "Which product grew the most?",
            "Write two sentences about it for the newsletter.",
        ),
    ),
    "engineering": (
        (
            "Write a Python function that computes the mean of a list.",
            "What if the list is empty?",
            "Add a test for this function.",
            "Which metrics show that it is slow?",
        ),
        (
            "Our checkout is slow. How do I find the reason in a trace?",
            "Which percentile should the alert use?",
            "Write the alert as code.",
        ),
    ),
}
_QUESTIONS: Final[Mapping[str, Sequence[str]]] = {
    "support": (
        "Where is order {order}?",
        "Can order {order} be refunded?",
        "When does a parcel to {city} arrive?",
    ),
    "sales": (
        "Which headphones do you recommend as a gift?",
        "Compare the price of our two laptops.",
        "Summarize the notes of today's meeting in three points.",
    ),
    "engineering": (
        "Write a regex for order numbers such as {order}.",
        "Explain the 95th percentile in two sentences.",
        "What can a trace tell that a log line cannot?",
    ),
}
_CITIES: Final = ("Vienna", "Lisbon", "Oslo", "Ghent", "Turin", "Graz")
# Texts that the assistant searches by embeddings.
DOCUMENTS: Final = (
    "Returns are possible within 30 days; the refund goes back to the card.",
    "Parcels arrive within three working days; express parcels on the next day.",
    "The warranty of lamps and headphones is two years.",
    "Orders can be changed until they have left the warehouse.",
    "Invoices are sent by email and are in the customer's account.",
    "Gift cards are valid for three years and cannot be refunded.",
)
_SEARCHES: Final = (
    "how long is the warranty of a lamp",
    "refund of a gift card",
    "change an order after it was placed",
    "when do express parcels arrive",
)
_COMPLAINTS: Final = (
    "Order {order} arrived in {city} with a broken lamp. I want my money back!",
    "I got the wrong size of the Trail 5 shoes in order {order}. Please exchange them.",
    "Where is {order}? It should have been in {city} on Monday.",
)
TICKET: Final[dict[str, Any]] = {
    "type": "json_schema",
    "json_schema": {
        "name": "ticket",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "order_id": {"type": "string"},
                "topic": {"type": "string", "enum": ["refund", "delivery", "exchange"]},
                "urgency": {"type": "string", "enum": ["low", "normal", "high"]},
                "summary": {"type": "string"},
            },
            "required": ["order_id", "topic", "urgency", "summary"],
            "additionalProperties": False,
        },
    },
}
_TOOL_QUESTIONS: Final = (
    "Please look up the status of order {order}.",
    "What is the weather in {city}? The courier is on a bicycle.",
)
# Repeated in the long report at the peak of cost.
_REPORT: Final = (
    "On day {n} the shop had {orders} orders; {late} parcels were late, and the returns desk "
    "answered all messages within a day. The lamp sold best, and the stock of shoes is low. "
)
_REPORT_DAYS: Final = 120
# Shares of the responses that are rated, and of the ratings that are bad.
_RATED: Final = 0.2
_USUALLY_BAD: Final = 0.1
_BAD: Final = {"contoso-small": 0.6}
_COMMENTS: Final = {
    "good": ("", "", "Thanks!", "Exactly what I needed."),
    "bad": ("", "That was not my question.", "The date is wrong.", "Too long, and no answer."),
}
# Cost is at its peak in the last minute of every five. The phases of the simulated providers have
# the same period (app/demo_models.toml).
_PERIOD_SECONDS: Final = 300.0
_PEAK_FROM_SECONDS: Final = 240.0


def _tool(name: str, description: str, argument: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {argument: {"type": "string"}},
        "required": [argument],
        "additionalProperties": False,
    }
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS: Final = (
    _tool("find_order", "Look up the status of an order", "order_id"),
    _tool("get_weather", "Current weather of a city for the courier", "city"),
)


class ToolError(Exception):
    """A tool found nothing."""


def call_tool(name: str, arguments: str, random: Random) -> str:
    """Return the result of a tool as JSON. Raise ToolError."""
    given = json.loads(arguments)
    if random.random() < 0.08:
        raise ToolError("the warehouse did not respond")
    if name == "find_order":
        status = random.choice(("packed", "shipped", "delivered"))
        return json.dumps({"order": given["order_id"], "status": status})
    sky = random.choice(("dry", "cloudy", "light rain"))
    return json.dumps({"city": given["city"], "degrees": random.randint(2, 28), "sky": sky})


def conversation(user: User, random: Random) -> list[str]:
    """Return the questions of one conversation."""
    order, city = _order(random), random.choice(_CITIES)
    turns = random.choice(_CONVERSATIONS[user.team])
    return [turn.format(order=order, city=city) for turn in turns]


def question(user: User, random: Random) -> str:
    """Return one question of a user."""
    return _filled(random.choice(_QUESTIONS[user.team]), random)


def tool_question(random: Random) -> str:
    """Return a question that needs a tool."""
    return _filled(random.choice(_TOOL_QUESTIONS), random)


def complaint(random: Random) -> str:
    """Return a message of a customer, from which a ticket is made."""
    return _filled(random.choice(_COMPLAINTS), random)


def rating(model: str, random: Random) -> tuple[str, str] | None:
    """Return a rating's label and comment; None for most responses."""
    if random.random() > _RATED:
        return None
    label = "bad" if random.random() < _BAD.get(model, _USUALLY_BAD) else "good"
    return label, random.choice(_COMMENTS[label])


def search(random: Random) -> str:
    """Return a search in the documents."""
    return random.choice(_SEARCHES)


def report(random: Random) -> str:
    """Return a prompt of about 4,000 words."""
    days = (
        _REPORT.format(n=n, orders=random.randint(80, 400), late=random.randint(0, 12))
        for n in range(1, _REPORT_DAYS + 1)
    )
    return "Summarize this report in three points.\n\n" + "".join(days)


def is_peak(now: float) -> bool:
    """Return whether a time, in seconds, is within the peak of its period."""
    return now % _PERIOD_SECONDS >= _PEAK_FROM_SECONDS


def _filled(text: str, random: Random) -> str:
    return text.format(order=_order(random), city=random.choice(_CITIES))


def _order(random: Random) -> str:
    return f"A-{random.randint(1000, 9999)}"
