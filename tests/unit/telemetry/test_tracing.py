"""Steps of a turn as spans."""

import pytest
from opentelemetry.trace import StatusCode

from app.errors import InternalError, InvalidRequest
from app.telemetry.tracing import step, use_tracer
from tests.memory import Memory


@pytest.fixture
def memory() -> Memory:
    memory = Memory()
    use_tracer(memory.providers.tracer_provider.get_tracer("test"))
    return memory


@pytest.mark.parametrize(
    ("error", "status", "description"),
    [
        (InvalidRequest("my secret words"), StatusCode.UNSET, None),
        (InternalError(), StatusCode.ERROR, "InternalError"),
        (ZeroDivisionError("my secret words"), StatusCode.ERROR, "ZeroDivisionError"),
    ],
)
def test_a_failed_step_is_an_error_unless_the_client_is_at_fault(
    memory: Memory, error: Exception, status: StatusCode, description: str | None
) -> None:
    with pytest.raises(type(error)), step("validate"):
        raise error
    span = memory.span("validate")
    assert (span.status.status_code, span.status.description) == (status, description)
    assert span.events == ()  # the exception is recorded where it is handled
