"""The environment of the native components."""

import pytest

from stack import facts
from stack.native import NativeStack


@pytest.mark.parametrize("said", ["NO_PROXY", "no_proxy"])
def test_parts_reach_each_other_without_a_proxy(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(said, "intranet.example")
    environment = NativeStack(facts.load({"PUBLISH_HOST": "192.0.2.7"})).environment()
    assert environment["NO_PROXY"] == environment["no_proxy"]
    assert environment["NO_PROXY"].split(",") == [
        "localhost",
        "127.0.0.1",
        "192.0.2.7",
        "intranet.example",
    ]
