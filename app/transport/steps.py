"""Spans of the steps before a turn."""

from collections.abc import Iterator
from contextlib import contextmanager

import chatscope
from app.domain.errors import InvalidRequest


@contextmanager
def step(name: str) -> Iterator[None]:
    """Run a step in a child span. An invalid request is the client's mistake: it passes, and the
    span's status stays unset."""
    invalid: InvalidRequest | None = None
    with chatscope.span(name):
        try:
            yield
        except InvalidRequest as error:
            invalid = error
    if invalid:
        raise invalid
