"""docs/api.md, held against the formats."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from app.wire.formats import FORMATS, count_tokens
from app.wire.formats.messages_request import PARAMETERS as MESSAGES
from app.wire.formats.responses_request import PARAMETERS as RESPONSES
from app.wire.formats.text_completions import PARAMETERS as TEXT_COMPLETIONS
from tests.unit.process import process, served

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


_COMMANDS = re.findall(r"^```sh\n(curl .*?)\n```$", _SECTION, re.MULTILINE | re.DOTALL)


def test_examples_run_as_they_are(tmp_path: Path) -> None:
    assert len(_COMMANDS) == 4
    found = {}
    with process() as started:
        url = served(started)
        for example in _COMMANDS:
            command = example.replace("curl http://127.0.0.1:3000", f"curl -sS --fail {url}")
            done = subprocess.run(
                ["bash", "-euc", command],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
            [path] = re.findall(r"(/v1/\S+)", command)
            found[path] = done.stdout
    assert json.loads(found.pop("/v1/messages/count_tokens"))["input_tokens"] > 0
    assert found["/v1/responses"].rstrip().splitlines()[-2] == "event: response.incomplete"
    assert found["/v1/messages"].rstrip().splitlines()[-2] == "event: message_stop"
    assert found["/v1/completions"].rstrip().splitlines()[-1] == "data: [DONE]"
