"""docs/api.md, held against the formats."""

import json
import re
from pathlib import Path

import pytest

from app.wire.formats import FORMATS, count_tokens
from app.wire.formats.messages_request import PARAMETERS as MESSAGES
from app.wire.formats.responses_request import PARAMETERS as RESPONSES
from app.wire.formats.text_completions import PARAMETERS as TEXT_COMPLETIONS

_PAGE = (Path(__file__).parents[4] / "docs" / "api.md").read_text()
_SECTION = _PAGE.partition("\n## Other formats\n")[2].partition("\n## ")[0]
_EXAMPLE = re.compile(r"curl http://127\.0\.0\.1:3000(\S+) .*?-d '(.*?)'", re.DOTALL)
_SECTIONS = {"Responses": RESPONSES, "Messages": MESSAGES, "Text completions": TEXT_COMPLETIONS}


@pytest.mark.parametrize("title", _SECTIONS)
def test_every_parameter_is_documented(title: str) -> None:
    text = _SECTION.partition(f"\n### {title}\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (translated|passed|ignored|refused) \|", text, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(_SECTIONS[title])


def test_every_path_has_an_example_that_is_a_valid_request() -> None:
    examples = {path: json.loads(body) for path, body in _EXAMPLE.findall(_SECTION)}
    assert examples.keys() == {*FORMATS, "/v1/messages/count_tokens"}
    assert count_tokens(examples.pop("/v1/messages/count_tokens"))["input_tokens"] > 0
    for path, body in examples.items():
        assert FORMATS[path].read(body).chat["messages"]
