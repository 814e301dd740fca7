"""A Loki with recorded conversations, for the reading tests of a file."""

import time
from collections.abc import Iterator

import pytest

from chatscope.cli.loki import Loki, selector
from stack.waiting import poll_until
from tests.stores import running_loki
from tests.talks import TALKS, talk


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_loki(tmp_path_factory.mktemp("loki")) as url:
        talk(url, TALKS)
        lines = Loki(url, {})
        now = time.time_ns()
        poll_until(
            lambda: len(list(lines.lines(selector([]), now - 10**11, now + 10**11))) >= 10,
            "all records",
        )
        yield url
