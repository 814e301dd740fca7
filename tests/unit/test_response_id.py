"""IDs of responses that have none from a provider."""

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from app.response_id import new_response_id, span_of

_TRACE, _SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("is_remote", [False, True])
def test_only_a_span_of_this_process_identifies_one_response(is_remote: bool) -> None:
    context = SpanContext(int(_TRACE, 16), int(_SPAN, 16), is_remote=is_remote)
    with trace.use_span(NonRecordingSpan(context)):
        made = new_response_id("msg_")
    assert made.startswith("msg_")
    assert (made == f"msg_{_TRACE}{_SPAN}") is not is_remote
    assert span_of(made) == (None if is_remote else (_TRACE, _SPAN))


def test_without_a_span_it_is_random() -> None:
    assert len({new_response_id("sim-") for _ in range(3)}) == 3


@pytest.mark.parametrize(
    "response_id",
    ["", "chatcmpl-1", f"x-{_TRACE}{_SPAN}", f"msg_{_TRACE}{_SPAN}0", "sim-" + "g" * 48],
)
def test_id_of_another_form_has_no_span(response_id: str) -> None:
    assert span_of(response_id) is None
