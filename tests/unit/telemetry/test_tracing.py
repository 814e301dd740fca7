"""Steps of a turn as spans."""

import contextvars

import pytest
from opentelemetry.trace import StatusCode, Tracer

from chatscope.tracing import current_trace_id, current_tracer, span, use_tracer
from tests.memory import Memory


class _ClientError(Exception):
    status = 400


class _ServerError(Exception):
    status = 500


@pytest.fixture
def memory() -> Memory:
    memory = Memory()
    use_tracer(memory.providers.tracer_provider.get_tracer("test"))
    return memory


@pytest.mark.parametrize(
    ("error", "status", "description"),
    [
        (_ClientError("my secret words"), StatusCode.UNSET, None),
        (_ServerError(), StatusCode.ERROR, "_ServerError"),
        (ZeroDivisionError("my secret words"), StatusCode.ERROR, "ZeroDivisionError"),
    ],
)
def test_a_failed_step_is_an_error_unless_the_client_is_at_fault(
    memory: Memory, error: Exception, status: StatusCode, description: str | None
) -> None:
    with pytest.raises(type(error)), span("validate"):
        raise error
    validate = memory.span("validate")
    assert (validate.status.status_code, validate.status.description) == (status, description)
    assert validate.events == ()  # the exception is recorded where it is handled


def test_step_is_a_span_with_attributes_in_the_current_trace(memory: Memory) -> None:
    with span("outer"), span("inner", {"n": 1}) as started:
        assert current_trace_id() == f"{started.get_span_context().trace_id:032x}"
    inner, outer = memory.span("inner"), memory.span("outer")
    assert inner.attributes == {"n": 1}
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id


def test_outside_of_a_span_there_is_no_trace_id() -> None:
    assert current_trace_id() == ""


def test_outside_of_an_application_steps_go_to_the_global_provider(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    tracer = current_tracer()

    def get_tracer(name: str) -> Tracer:
        asked.append(name)
        return tracer

    monkeypatch.setattr("chatscope.tracing.trace.get_tracer", get_tracer)
    assert contextvars.Context().run(current_tracer) is tracer
    assert asked == ["chatscope"]
    assert current_tracer() is tracer
    assert len(asked) == 1
