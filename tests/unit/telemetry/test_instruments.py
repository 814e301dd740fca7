"""What the verbs of the instruments record."""

import pytest
from opentelemetry import trace
from opentelemetry.context import Context

from chatscope import names
from chatscope.instruments import Instruments
from tests.memory import Memory


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def instruments(memory: Memory) -> Instruments:
    return Instruments(memory.providers.meter_provider.get_meter("test"), frozenset({"known"}))


@pytest.mark.parametrize(
    ("role", "recorded"),
    [
        ("user", "user"),
        ("assistant", "assistant"),
        ("system", "system"),
        ("tool", "tool"),
        ("king", names.OTHER),
    ],
)
def test_role_outside_of_the_list_is_other(
    instruments: Instruments, memory: Memory, role: str, recorded: str
) -> None:
    instruments.record_message(role)
    [point] = memory.points(names.MESSAGE_COUNT.name)
    assert (point.attributes, point.value) == ({names.ROLE: recorded}, 1)


def test_limits_are_shown_and_counted_from_zero(instruments: Instruments, memory: Memory) -> None:
    instruments.show_limits({"answers": 7, "sockets": 3})
    instruments.record_limit_reached("sockets")
    shown = {p.attributes[names.LIMIT]: p.value for p in memory.points(names.LIMIT_VALUE.name)}
    assert shown == {"answers": 7, "sockets": 3}
    reached = {p.attributes[names.LIMIT]: p.value for p in memory.points(names.LIMIT_REACHED.name)}
    assert reached == {"answers": 0, "sockets": 1}


def test_every_verb_records_in_the_given_context(instruments: Instruments, memory: Memory) -> None:
    span = memory.providers.tracer_provider.get_tracer("test").start_span("x")
    context: Context = trace.set_span_in_context(span)
    instruments.record_socket_connection(1, context)
    instruments.record_message("user", context)
    instruments.record_llm_response_time(1.0, model="known", context=context)
    instruments.record_token_usage("prompt", 1, model="known", context=context)
    instruments.record_cost(1.0, model="known", context=context)
    exemplars = memory.exemplars()
    for metric in (
        names.SOCKET_CONNECTIONS,
        names.MESSAGE_COUNT,
        names.LLM_RESPONSE_TIME,
        names.LLM_TOKEN_USAGE,
        names.LLM_COST,
    ):
        assert exemplars[metric.name] == {f"{span.get_span_context().trace_id:032x}"}, metric.name
