"""Texts of the simulated model: sentences about the subject of the request, and Markdown.

Each depends on the request and on a seeded generator only.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from app.domain.request import Message, message_text

# Begins each text: no language model responded.
MARK: Final = "(simulated)"
# Characters of a message that decide about its subject.
_EXAMINED: Final = 2_000
_MAX_RESULT: Final = 200
# A token: a word, with the whitespace before it.
_TOKEN: Final = re.compile(r"\s*\S+|\s+$")
_WORD: Final = re.compile(r"[a-z]+")
_ORDER: Final = re.compile(r"\b[A-Z]{1,3}-\d{2,8}\b|#?\b\d{4,8}\b")
_CITY: Final = re.compile(r"\bin ([A-Z][a-z]{2,20}(?: [A-Z][a-z]{2,20})?)")
_SLOT: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Subject:
    """A subject of requests: words that indicate it, an opening, sentences, a block."""

    words: frozenset[str]
    openings: Sequence[str]
    sentences: Sequence[str]
    block: str = ""


def _subject(words: str, openings: Sequence[str], sentences: Sequence[str], block: str) -> Subject:
    return Subject(frozenset(words.split()), openings, sentences, block)


_SUBJECTS: Final = (
    _subject(
        "refund refunds money return returned reimburse chargeback",
        (
            "I have started the refund for order {order}.",
            "Order {order} can be refunded, because it is within the 30 days.",
        ),
        (
            "The amount of {amount} goes back to the card that was used.",
            "Most banks show it within {days} working days.",
            "Please put the item into its original box and use the label from our email.",
            "You do not need to pay for the return.",
            "A second email confirms the refund as soon as the parcel has been scanned.",
        ),
        "1. Print the label from the email.\n2. Pack the item with its accessories.\n"
        "3. Leave the parcel at any {carrier} shop.",
    ),
    _subject(
        "order orders parcel package delivery deliver shipped shipping tracking arrive late",
        (
            "Order {order} left our warehouse on {day}.",
            "I found order {order}: it is on its way with {carrier}.",
        ),
        (
            "It should arrive by {day}, before {hour} o'clock.",
            "The parcel is at the sorting centre in {city} at the moment.",
            "You can still change the delivery address until tomorrow evening.",
            "If nobody is at home, {carrier} leaves it with a neighbour.",
            "I will send you a message when the status changes.",
        ),
        "| step | state |\n|---|---|\n| packed | done |\n| shipped | done |\n"
        "| delivered | expected on {day} |",
    ),
    _subject(
        "weather rain sunny forecast temperature umbrella cold warm degrees wind",
        (
            "In {city} it will be {degrees} degrees and mostly dry.",
            "The forecast for {city} says {degrees} degrees with a few clouds.",
        ),
        (
            "A light shower is possible in the late afternoon.",
            "The wind comes from the west and stays weak.",
            "A thin jacket is enough; you can leave the umbrella at home.",
            "On {day} it gets about three degrees colder.",
            "The next update of the forecast comes at {hour} o'clock.",
        ),
        "- morning: {degrees} degrees, clear\n- afternoon: some clouds\n- evening: dry and calm",
    ),
    _subject(
        "code function python bug script sql regex class test implement exception compile",
        (
            "Here is a short version with a check for an empty list.",
            "The error comes from the empty list: the division has no guard.",
        ),
        (
            "The function returns None when there is nothing to compute.",
            "A test with one, two and no values covers all branches.",
            "I kept the signature, so callers do not need a change.",
            "Type hints let the checker find a wrong argument early.",
            "If the list may be large, pass an iterator instead.",
        ),
        "```python\ndef mean(values: list[float]) -> float | None:\n"
        "    if not values:\n        return None\n    return sum(values) / len(values)\n```",
    ),
    _subject(
        "summary summarize summarise report document minutes notes tldr text article",
        (
            "The document has three main points.",
            "In short: sales grew, costs stayed flat, and one risk is open.",
        ),
        (
            "Sales rose by {percent} percent compared with the last quarter.",
            "The move to the new warehouse finished {days} days early.",
            "Costs stayed within the budget of {amount}.",
            "The open risk is the contract with {carrier}, which ends on {day}.",
            "The team asks for a decision by {day}.",
        ),
        "- **Growth:** {percent} percent more orders\n- **Costs:** within the budget\n"
        "- **Risk:** the carrier's contract",
    ),
    _subject(
        "product products recommend buy compare price lamp headphones shoes size laptop gift",
        (
            "For that budget, take a look at our {product}.",
            "Our {product} would fit best, with a warranty of two years.",
        ),
        (
            "The price is {amount}, and there are some in stock.",
            "Customers praise the quality and the simple setup.",
            "The larger model is heavier and only a little faster.",
            "You can try it at home and send it back within 30 days.",
            "There is a choice of black, white and green.",
        ),
        "| model | price | rating |\n|---|---|---|\n| {product} | {amount} | 4.6 |\n"
        "| {product} Plus | {amount} | 4.4 |",
    ),
    _subject(
        "trace traces latency metric metrics alert slow token tokens percentile span log cost",
        (
            "Start with the slowest response and open its trace.",
            "The trace shows which step took the time.",
        ),
        (
            "Compare the time to the first token with the total time.",
            "A long prompt costs more and delays the first token.",
            "The 95th percentile shows what the slowest five percent of users see.",
            "A log record with the same trace ID has the reason of a failure.",
            "An alert should name the symptom, the limit and the first step.",
        ),
        "```promql\nhistogram_quantile(0.95, sum by (le) (rate(latency_seconds_bucket[5m])))\n```",
    ),
    _subject(
        "hello hi hey morning evening thanks thank welcome",
        (
            "Hello! How can I help you today?",
            "Hi! It is good to hear from you.",
        ),
        (
            "I can look up an order, explain a refund or compare two products.",
            "Just tell me the number of your order, if you have one.",
            "I can also check the weather before a delivery.",
            "Take your time; I keep our conversation in mind.",
        ),
        "- orders and deliveries\n- returns and refunds\n- advice about products",
    ),
)
_GENERAL: Final = Subject(
    frozenset(),
    (
        "Here is a short answer to your question.",
        "Yes, that is possible, and it takes only a few steps.",
    ),
    (
        "The first step is to collect the facts that you already have.",
        "Then compare two or three options and note their costs.",
        "Most teams need about {days} days for this.",
        "Ask one colleague to check the result before you share it.",
        "If something is unclear, start with the smallest useful version.",
        "A good time for a review is {day}.",
    ),
    "1. Collect the facts.\n2. Compare the options.\n3. Decide and write it down.",
)
_FURTHER: Final = (
    "Tell me if you want more details.",
    "I can explain any of these points in more depth.",
    "The details are on our help page as well.",
    "Let me know how it goes.",
    "You can ask me again at any time.",
    "On {day} I can give you an update.",
    "This takes about {minutes} minutes in most cases.",
    "Our team in {city} answers further questions until {hour} o'clock.",
)
_PRODUCTS: Final = {
    "lamp": "Lumen 2 lamp",
    "headphones": "Aria headphones",
    "shoes": "Trail 5 shoes",
    "laptop": "Fold 14 laptop",
}
_VALUES: Final[Mapping[str, Callable[[Random], str]]] = {
    "order": lambda random: f"A-{random.randint(1000, 9999)}",
    "city": lambda random: random.choice(("Vienna", "Lisbon", "Oslo", "Ghent", "Turin")),
    "amount": lambda random: f"{random.randint(12, 240)}.90 euros",
    "day": lambda random: random.choice(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")),
    "days": lambda random: str(random.randint(2, 6)),
    "degrees": lambda random: str(random.randint(4, 27)),
    "percent": lambda random: str(random.randint(3, 19)),
    "hour": lambda random: str(random.randint(10, 18)),
    "minutes": lambda random: str(random.randint(5, 25)),
    "carrier": lambda random: random.choice(("Parcel Nord", "Swift Post", "Blue Van")),
    "product": lambda random: random.choice(list(_PRODUCTS.values())),
}


def compose(messages: Sequence[Message], random: Random, least: int, wanted: int, most: int) -> str:
    """Return a text of about `wanted` words, from `least` to `most`."""
    text, count, after_block = MARK, 1, False
    for part in _parts(messages, random):
        size = len(part.split())
        if count >= least and abs(count - wanted) <= abs(count + size - wanted):
            return text
        if count + size > most:
            return text if count >= least else _shortened(text, part, wanted - count)
        is_block = "\n" in part
        text += ("\n\n" if is_block or after_block else " ") + part
        count += size
        after_block = is_block
    raise AssertionError("the parts have no end")


def tokens_of(text: str) -> list[str]:
    """Return the tokens of a text: its words, each with the whitespace before it."""
    return _TOKEN.findall(text)


def _shortened(text: str, part: str, words: int) -> str:
    kept = tokens_of(part)[: max(0, words)]
    return " ".join([text, "".join(kept).rstrip(".,:;") + "."]) if kept else text


def _parts(messages: Sequence[Message], random: Random) -> Iterator[str]:
    """Yield sentences and blocks without an end."""
    subject, text = _subject_of(messages)
    values = _named(text)

    def filled(template: str) -> str:
        return _SLOT.sub(lambda slot: value(slot[1]), template)

    def value(name: str) -> str:
        if name not in values:
            values[name] = _VALUES[name](random)
        return values[name]

    if found := _result(messages[-1]):
        yield found
    yield filled(random.choice(subject.openings))
    first, *others = random.sample(subject.sentences, len(subject.sentences))
    yield filled(first)
    yield filled(subject.block)
    yield from (filled(each) for each in others)
    while True:
        further = (*_FURTHER, *_GENERAL.sentences)
        yield from (filled(each) for each in random.sample(further, len(further)))


def _subject_of(messages: Sequence[Message]) -> tuple[Subject, str]:
    """Return the subject of the last message of a user that has one, and its text."""
    texts = [message_text(each)[:_EXAMINED] for each in messages[-9:] if each["role"] == "user"]
    for text in reversed(texts):
        words = set(_WORD.findall(text.lower()))
        best = max(_SUBJECTS, key=lambda subject: len(subject.words & words))
        if best.words & words:
            return best, text
    return _GENERAL, texts[-1] if texts else ""


def _named(text: str) -> dict[str, str]:
    """Return the values that the request names."""
    found = {}
    if order := _ORDER.search(text):
        found["order"] = order[0]
    if city := _CITY.search(text):
        found["city"] = city[1]
    words = set(_WORD.findall(text.lower()))
    if product := next((name for kind, name in _PRODUCTS.items() if kind in words), None):
        found["product"] = product
    return found


def _result(message: Message) -> str:
    """Return a sentence about the result of a tool; "" for any other message."""
    if message["role"] not in ("tool", "function"):
        return ""
    text = " ".join(message_text(message)[:_MAX_RESULT].split())
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict):
        text = ", ".join(f"{name} {value}" for name, value in found.items())
    return f"The lookup says: {text.rstrip('.')}." if text else ""
