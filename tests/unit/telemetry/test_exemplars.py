"""Exemplars outlive the collection that first hands them out."""

import pytest
from opentelemetry.sdk.trace import Tracer

from chatscope import exemplars, names
from chatscope.instruments import Instruments
from tests.memory import Memory

_NAME = names.LLM_RESPONSE_TIME.name


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def instruments(memory: Memory) -> Instruments:
    return Instruments(memory.providers.meter_provider.get_meter("test"))


@pytest.fixture
def tracer(memory: Memory) -> Tracer:
    tracer = memory.providers.tracer_provider.get_tracer("test")
    assert isinstance(tracer, Tracer)
    return tracer


def _record(tracer: Tracer, instruments: Instruments, seconds: float) -> str:
    with tracer.start_as_current_span("work") as span:
        instruments.record_llm_response_time(seconds, model="m")
        instruments.record_cost(seconds, model="m")
    return f"{span.get_span_context().trace_id:032x}"


def test_exemplar_is_still_there_at_the_next_collection(
    memory: Memory, instruments: Instruments, tracer: Tracer
) -> None:
    trace_id = _record(tracer, instruments, 1.0)
    memory.metrics()
    found = memory.exemplars()
    assert (found[_NAME], found["llm_cost"]) == ({trace_id}, {trace_id})


def test_newer_one_takes_the_place_of_its_bucket_only(
    memory: Memory, instruments: Instruments, tracer: Tracer
) -> None:
    slow = _record(tracer, instruments, 50.0)
    _record(tracer, instruments, 1.0)
    memory.metrics()
    newer = _record(tracer, instruments, 1.1)
    found = memory.exemplars()
    assert found[_NAME] == {slow, newer}
    assert found["llm_cost"] == {newer}


def test_old_exemplar_goes(
    memory: Memory,
    instruments: Instruments,
    tracer: Tracer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _record(tracer, instruments, 1.0)
    memory.metrics()
    monkeypatch.setattr(exemplars, "_KEEP_NS", 0)
    assert memory.exemplars()[_NAME] == set()
