"""Texts of the simulated model: about what was asked, of the wanted length, the same each time."""

from random import Random
from typing import Any

import pytest

from app.providers.simulated_texts import MARK, compose, tokens_of
from tests.each import for_each

_ABOUT = {
    "Where is my order A-1042?": "A-1042",
    "I want a refund for order 77121.": "77121",
    "Will it rain in Ghent tomorrow?": "Ghent",
    "Write a Python function with a test.": "```python",
    "Please summarize this report.": "**Growth:**",
    "Which lamp do you recommend?": "Lumen 2 lamp",
    "Which metrics show a slow response?": "```promql",
    "Hello there": "- returns and refunds",
    "What should I do next?": "1. Collect the facts.",
}


def _said(text: str, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **more}


def _text(*messages: dict[str, Any], seed: int = 1, words: int = 60) -> str:
    random = Random(seed)  # noqa: S311
    return compose(messages, random, words // 2 or 1, words, words * 3 // 2)


@for_each({question: question for question in _ABOUT})
def test_text_is_about_the_question(question: str) -> None:
    text = _text(_said(question))
    assert text.startswith(f"{MARK} ")
    assert _ABOUT[question] in text


def test_same_seed_gives_the_same_text_and_another_seed_another_one() -> None:
    assert _text(_said("hello")) == _text(_said("hello"))
    assert len({_text(_said("hello"), seed=seed) for seed in range(10)}) > 5


def test_question_without_a_subject_follows_the_one_before() -> None:
    before = _said("Where is my order A-1042?"), _said("It is on its way.", "assistant")
    assert "A-1042" in _text(*before, _said("And when exactly?"))


def test_result_of_a_tool_is_repeated() -> None:
    result = _said('{"city": "Oslo", "degrees": 4}', "tool", tool_call_id="c")
    text = _text(_said("How is the weather?"), result)
    assert text.startswith(f"{MARK} The lookup says: city Oslo, degrees 4.")


def test_values_agree_within_a_text() -> None:
    text = _text(_said("How is the weather in Rome?"), words=40)
    degrees = [word for word, unit in zip(text.split(), text.split()[1:], strict=False)
               if unit.startswith("degrees")]  # fmt: skip
    assert len(degrees) > 1
    assert len(set(degrees)) == 1


@pytest.mark.parametrize("words", [1, 2, 3, 5, 8, 30, 60, 2000])
def test_length_is_near_the_wanted_one(words: int) -> None:
    lengths = [len(_text(_said(f"order {n}"), seed=n, words=words).split()) for n in range(20)]
    assert words // 2 <= min(lengths)
    assert max(lengths) <= max(1, words * 3 // 2)
    assert sum(lengths) / 20 == pytest.approx(words, rel=0.25, abs=2)


def test_tokens_are_words_with_the_whitespace_before_them() -> None:
    text = _text(_said("Write a function"), words=80)
    tokens = tokens_of(text)
    assert "".join(tokens) == text
    assert [token.strip() for token in tokens] == text.split()
