"""Spans of the steps before a turn."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.domain.errors import InvalidRequest
from chatscope.tracing import step as span_of_step


@contextmanager
def step(name: str) -> Iterator[None]:
    """Run a step in a child span. An invalid request is the client's mistake: it passes, and the
    span's status stays unset."""
    invalid: InvalidRequest | None = None
    with span_of_step(name):
        try:
            yield
        except InvalidRequest as error:
            invalid = error
    if invalid:
        raise invalid
