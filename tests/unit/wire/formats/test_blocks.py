"""Chunks that differ between providers, read as the same blocks."""

from typing import Any

import pytest

from app.wire.formats.blocks import Annotated, Block, BlockReader, Delta, Finished, Kind, Started
from chatscope.genai.request import Usage
from tests.unit.wire.formats.completions import chunk

Json = dict[str, Any]


def _read(*deltas: Json) -> list[tuple[str, str, str]]:
    """Return kind, name and text of each block, put together from its events."""
    reader = BlockReader()
    open_block: Block | None = None
    texts: list[str] = []
    for events in (*(reader.read(chunk(delta)) for delta in deltas), reader.end()):
        for event in events:
            match event:
                case Started(block):
                    assert open_block is None
                    open_block = block
                    texts.append("")
                case Delta(block, text):
                    assert block is open_block
                    texts[-1] += text
                case Finished(block):
                    assert block is open_block
                    assert block.text == texts[-1]
                    open_block = None
    assert open_block is None
    assert len(texts) == len(reader.blocks)
    return [(block.kind.value, block.name, block.text) for block in reader.blocks]


def _call(arguments: object, **fields: Any) -> Json:
    name = {"name": fields.pop("name")} if "name" in fields else {}
    return {"tool_calls": [{**fields, "function": {**name, "arguments": arguments}}]}


_A, _B = ("tool_call", "a", '{"x":1}'), ("tool_call", "b", '{"y":2}')


@pytest.mark.parametrize(
    "deltas",
    [
        # OpenAI
        [
            _call("", index=0, id="1", name="a"),
            _call('{"x":', index=0),
            _call("1}", index=0),
            _call("", index=1, id="2", name="b"),
            _call('{"y":2}', index=1),
        ],
        # ID and name in each chunk
        [
            _call('{"x":', index=0, id="1", name="a"),
            _call("1}", index=0, id="1", name="a"),
            _call('{"y":2}', index=1, id="2", name="b"),
        ],
        # a name in each chunk and no ID
        [
            _call('{"x":', index=0, name="a"),
            _call("1}", index=0, name="a"),
            _call('{"y":2}', index=1, name="b"),
        ],
        # the name after the ID, or after arguments
        [
            _call("", index=0, id="1"),
            _call('{"x":1}', index=0, name="a"),
            _call('{"y":', index=1, id="2"),
            _call("2}", index=1, name="b"),
        ],
        # the same index for all calls
        [
            _call('{"x":1}', index=0, id="1", name="a"),
            _call('{"y":2}', index=0, id="2", name="b"),
        ],
        # no index
        [_call('{"x":1}', id="1", name="a"), _call('{"y":2}', id="2", name="b")],
        # neither index nor ID
        [_call('{"x":', name="a"), _call("1}"), _call('{"y":2}', name="b")],
        # an object instead of its JSON
        [_call({"x": 1}, index=0, name="a"), _call({"y": 2}, index=1, name="b")],
        # interleaved
        [
            _call("", index=0, id="1", name="a"),
            _call("", index=1, id="2", name="b"),
            _call('{"y":', index=1),
            _call('{"x":', index=0),
            _call("2}", index=1),
            _call("1}", index=0),
        ],
    ],
)
def test_tool_calls(deltas: list[Json]) -> None:
    assert _read(*deltas) == [_A, _B]


def test_tool_call_without_an_id_gets_one() -> None:
    reader = BlockReader()
    [*_] = [*reader.read(chunk(_call("{}", name="a"))), *reader.end()]
    assert reader.blocks[0].call_id.startswith("call_")


def test_second_tool_call_does_not_wait_for_the_end_of_the_response() -> None:
    reader = BlockReader()
    [*_] = reader.read(chunk(_call('{"x":1}', index=0, id="1", name="a")))
    found = [*reader.read(chunk(_call('{"y"', index=1, id="2", name="b")))]
    first, second = reader.blocks
    assert found == [Finished(first), Started(second), Delta(second, '{"y"')]


def test_text_after_an_incomplete_tool_call_is_not_lost() -> None:
    deltas = [_call('{"x":', index=0, name="a"), {"content": "Hm"}, _call("1}", index=0)]
    assert _read(*deltas, {"content": "."}) == [_A, ("text", "", "Hm.")]


def test_old_function_call_is_a_tool_call() -> None:
    first = {"function_call": {"name": "a", "arguments": '{"x":'}}
    assert _read(first, {"function_call": {"arguments": "1}"}}) == [_A]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_in_the_fields_of_providers(name: str) -> None:
    assert _read({name: "Hm", "content": ""}, {"content": "A"}) == [
        ("reasoning", "", "Hm"),
        ("text", "", "A"),
    ]


def test_content_that_is_a_list_of_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    more = {"type": "thinking", "thinking": "."}
    content = [thinking, more, {"type": "text", "text": "A"}, {"type": "reference"}]
    refusal = {"type": "refusal", "refusal": "No"}
    assert _read({"content": content}, {"content": [refusal]}) == [
        ("reasoning", "", "Hm."),
        ("text", "", "A"),
        ("refusal", "", "No"),
    ]


def test_tool_call_starts_when_its_name_is_known() -> None:
    reader = BlockReader()
    assert not [*reader.read(chunk(_call("{", index=0, id="1")))]
    found = [*reader.read(chunk(_call("}", index=0, name="a")))]
    [block] = reader.blocks
    assert found == [Started(block), Delta(block, "{", []), Delta(block, "}")]
    assert (block.call_id, block.name) == ("1", "a")


def test_old_function_call_differs_from_tool_calls() -> None:
    old = {"function_call": {"name": "a", "arguments": '{"x":1}'}}
    assert _read(old, _call('{"y":2}', name="b")) == [_A, _B]


def test_logprobs_and_annotations_belong_to_the_text() -> None:
    reader = BlockReader()
    token, url = {"token": "A"}, {"type": "url_citation"}
    events = [*reader.read(chunk({"content": "A"}, logprobs={"content": [token]}))]
    events += reader.read(chunk({"annotations": [url]}))
    [block] = reader.blocks
    assert events == [Started(block), Delta(block, "A", [token]), Annotated(block, url)]
    assert (block.logprobs, block.annotations) == ([token], [url])


def test_annotations_that_waited_are_sent_with_their_text() -> None:
    reader = BlockReader()
    waiting = {"content": "A", "annotations": [{"type": "url_citation"}]}
    [*_] = [*reader.read(chunk(_call("", name="a"))), *reader.read(chunk(waiting))]
    call, text = reader.blocks
    assert [*reader.end()] == [
        Finished(call),
        Started(text),
        Delta(text, "A", []),
        Annotated(text, {"type": "url_citation"}),
        Finished(text),
    ]


def test_last_usage_counts() -> None:
    reader = BlockReader()
    for usage in ({"prompt_tokens": 1}, {"prompt_tokens": 2, "completion_tokens": 3}, None, {}):
        [*_] = reader.read({"choices": [], "usage": usage})
    assert reader.usage == Usage(2, 3)


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [None]},
        {"choices": [{"index": 0, "content_filter_results": {}}]},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [{"index": 1, "delta": {"content": "other"}}]},
        {"choices": [{"delta": {"content": None, "tool_calls": [{"function": None}]}}]},
    ],
)
def test_chunk_without_content_has_no_text(odd: Json) -> None:
    reader = BlockReader()
    [*_] = [*reader.read(odd), *reader.end()]
    assert "".join(block.text for block in reader.blocks) == ""


def test_only_the_reader_that_wants_reasoning_gets_it() -> None:
    reader = BlockReader(reasoning=False)
    [*_] = reader.read(chunk({"reasoning": "Hm", "content": "A"}))
    assert [block.kind for block in reader.blocks] == [Kind.TEXT]
