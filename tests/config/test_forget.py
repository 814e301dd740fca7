"""The records of one user are deleted from Loki, with the stack's own configuration."""

import time
from pathlib import Path

import httpx2
import pytest

from stack import facts as stack_facts
from stack.forget import condition, forget, main
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS
from tests.stores import free_ports, running_loki

_COUNT = 5


def test_condition_is_a_query_whatever_the_texts_contain() -> None:
    assert condition("ann@example.com", None) == '| user_id="ann@example.com"'
    assert condition('an"n\\', None) == r'| user_id="an\"n\\" or user_id="an_n_"'
    assert condition("", "Ann `Example`") == '|= "Ann `Example`"'


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "either a user or --containing"),
        (["ann", "--containing", "Ann"], "either a user or --containing"),
        # They would be found in every record.
        ([""], "the user or the text is empty"),
        (["--containing", ""], "the user or the text is empty"),
    ],
)
def test_command_needs_a_user_or_a_text(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


def _push(url: str) -> None:
    now = time.time_ns()
    records = [
        {
            "timeUnixNano": str(now + number),
            "body": {"stringValue": f"answer {number}"},
            "attributes": [{"key": "user.id", "value": {"stringValue": user}}],
        }
        for number, user in enumerate(["ann", "bob"] * _COUNT)
    ]
    service = {"key": "service.name", "value": {"stringValue": "chatscope"}}
    logs = {"resource": {"attributes": [service]}, "scopeLogs": [{"logRecords": records}]}
    body = {"resourceLogs": [logs]}
    httpx2.post(f"{url}/otlp/v1/logs", json=body, trust_env=False).raise_for_status()


def _found(url: str, user: str) -> int:
    query = {"query": f'{{service_name="chatscope"}} | user_id="{user}"'}
    answer = httpx2.get(f"{url}/loki/api/v1/query_range", params=query, trust_env=False)
    streams = answer.raise_for_status().json()["data"]["result"]
    return sum(len(stream["values"]) for stream in streams)


@pytest.mark.slow
@pytest.mark.timeout(400)  # Loki's compactor begins a minute after its start.
def test_records_of_one_person_are_gone_and_those_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with running_loki(tmp_path / "data") as url:
        _push(url)
        poll_until(lambda: _found(url, "ann") == _COUNT, "the records", PATIENCE_SECONDS)
    facts = stack_facts.load({**free_ports(), "STATE_DIR": str(tmp_path)})
    assert forget(facts, condition("ann", None)) == (_COUNT, 0)
    with running_loki(tmp_path / "data") as url:
        assert _found(url, "ann") == 0
        assert _found(url, "bob") == _COUNT
