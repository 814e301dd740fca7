"""Tail sampling in two gateways: what is unusual is kept whole, and a share of the rest."""

import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import alerts.ledger
from dashboards.others import SPAN_CALLS
from ledger import otlp
from stack import facts as stack_facts
from stack import supervisor, way
from stack.backends import Backends
from stack.secrets import telemetry_headers
from stack.waiting import poll_until
from tests import builds, groups
from tests.chaos.outages import stopped
from tests.running import PATIENCE_SECONDS, Stack

_NS = 1_000_000_000
_AGENTS = ("OTLP_URL", "AGENT2_URL")
_SERVICE = "test-sampling"
# More than a gateway gets at once below, and fewer than it drops in all.
_IN_MEMORY = 100
_SETTINGS = {
    "TOPOLOGY": "scaled",
    "TRACES_KEPT_PERCENT": "50",
    "SLOW_TRACE_MS": "2000",
    "EXPENSIVE_RESPONSE_USD": "0.5",
    "TRACE_WAIT_AFTER_ROOT": "2s",
    "TRACE_WAIT": "20s",
    "TRACES_IN_MEMORY": str(_IN_MEMORY),
}
# The first 16 of the random bits of a trace ID decide on the share.
_IN_SHARE, _NOT_IN_SHARE = "ffff", "0000"
_TRACES = 20  # of each kind, so that both gateways have some


@dataclass
class _Kind:
    """Traces of two spans, which enter through different agents, and their trace IDs."""

    share: str = _NOT_IN_SHARE
    seconds: float = 0.1
    # Of the child, which enters through the other agent than the root.
    error: bool = False
    attributes: dict[str, str | int | float] = field(default_factory=dict)
    root: bool = True
    ids: list[bytes] = field(default_factory=list)

    def send(self, stack: Stack, name: str) -> None:
        for number in range(_TRACES):
            trace_id = _trace_id(self.share)
            self.ids.append(trace_id)
            spans = self.spans(trace_id, name)
            for agent, span in zip(_AGENTS[:: 1 if number % 2 else -1], spans, strict=False):
                with otlp.sender(stack.facts[agent], telemetry_headers(stack.facts)) as sender:
                    sender.send(otlp.spans(_SERVICE, span))

    def spans(self, trace_id: bytes, name: str) -> Iterator[Span]:
        root = otlp.span(trace_id, name)
        child = otlp.span(trace_id, f"{name} child", {})
        child.span_id = secrets.token_bytes(8)
        child.parent_span_id = root.span_id
        root.start_time_unix_nano = root.end_time_unix_nano - int(self.seconds * _NS)
        if self.error:
            child.status.code = Status.STATUS_CODE_ERROR
        for key, value in self.attributes.items():
            pair = child.attributes.add(key=key)
            if isinstance(value, float):
                pair.value.double_value = value
            else:
                pair.value.string_value = str(value)
        yield child
        if self.root:
            yield root

    def is_whole(self, stack: Stack) -> bool:
        return self.found(stack) == _WHOLE

    def found(self, stack: Stack) -> list[int]:
        """Return the number of spans of each trace in Tempo."""
        return [len(stack.backends.tempo_trace(each.hex()) or []) for each in self.ids]


_WHOLE = [2] * _TRACES
_KEPT = {
    "error": _Kind(error=True),
    "slow": _Kind(seconds=3.0),
    "expensive": _Kind(attributes={"chatscope.answer.cost": 0.6}),
    "rated badly": _Kind(attributes={"gen_ai.evaluation.score.label": "bad"}),
    "in the share": _Kind(share=_IN_SHARE),
}
_DROPPED = {
    "usual": _Kind(),
    "rated well": _Kind(attributes={"gen_ai.evaluation.score.label": "good"}),
    "cheap": _Kind(attributes={"chatscope.answer.cost": 0.4}),
}


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return a scaled stack that keeps half of the usual traces."""
    state = {"STATE_DIR": str(tmp_path_factory.mktemp("sampled"))}
    shifted = stack_facts.shifted(groups.SAMPLED, _SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPOSE_DISABLE_ENV_FILE", "1")
        facts = stack_facts.load({**os.environ, **_SETTINGS, **shifted, **state})
        chosen = way.native(facts)
        builds.wait_for_programs_of(chosen)
        with chosen as running, Backends(facts) as backends:
            yield Stack(facts, backends, running)
            for process in supervisor.own_processes(facts["STATE_DIR"]):
                process.kill()


@pytest.fixture(scope="module")
def traces(sampled: Stack) -> Stack:
    """Return the stack after all traces were sent and those in the share were found."""
    for name, kind in (_KEPT | _DROPPED).items():
        kind.send(sampled, name)
    share = _KEPT["in the share"]
    poll_until(partial(share.is_whole, sampled), "the traces in the share", PATIENCE_SECONDS)
    return sampled


@pytest.mark.parametrize("name", _KEPT)
def test_trace_from_two_agents_is_kept_whole(traces: Stack, name: str) -> None:
    poll_until(partial(_KEPT[name].is_whole, traces), f"the traces: {name}", PATIENCE_SECONDS)


@pytest.mark.parametrize("name", _DROPPED)
def test_usual_trace_outside_the_share_is_dropped_whole(traces: Stack, name: str) -> None:
    assert _DROPPED[name].found(traces) == [0] * _TRACES


def test_both_gateways_have_decided(traces: Stack) -> None:
    query = (
        "count(sum by (instance) (otelcol_processor_tail_sampling_global_count_traces_sampled) > 0)"
    )

    def decided() -> list[float]:
        return [each.value for each in traces.backends.prometheus(query)]

    poll_until(lambda: decided() == [2.0], "decisions of both", PATIENCE_SECONDS)


def test_metrics_of_spans_count_all_traces(traces: Stack) -> None:
    query = f'sum by (span_name) ({SPAN_CALLS.prometheus}{{service_name="{_SERVICE}"}})'

    def counted() -> bool:
        found = {each.labels["span_name"]: each.value for each in traces.backends.prometheus(query)}
        return all(
            found.get(name) == found.get(f"{name} child") == _TRACES for name in _KEPT | _DROPPED
        )

    poll_until(counted, "all spans in the metrics", PATIENCE_SECONDS)


def test_exemplars_link_to_kept_traces_only(traces: Stack) -> None:
    metric = "traces_span_metrics_duration_seconds_bucket"
    since = time.time() - 600

    def links(name: str) -> set[str | None]:
        query = f'{metric}{{service_name="{_SERVICE}",span_name="{name}"}}'
        found = traces.backends.exemplars(query, since, time.time() + 60)
        return {each.labels.get("trace_id") for each in found}

    for name in ("in the share", "slow"):
        found = poll_until(partial(links, name), f"exemplars: {name}", PATIENCE_SECONDS)
        assert found <= {each.hex() for each in _KEPT[name].ids}
    # They keep their value.
    assert poll_until(partial(links, "usual"), "exemplars: usual", PATIENCE_SECONDS) == {None}


@pytest.mark.parametrize("kind", ["error", "rated badly"])
def test_late_span_of_a_dropped_trace_is_decided_on_its_own(traces: Stack, kind: str) -> None:
    [first, *_] = _DROPPED["usual"].ids
    late = next(_KEPT[kind].spans(first, f"late {kind}"))
    with otlp.sender(traces.facts["OTLP_URL"], telemetry_headers(traces.facts)) as sender:
        sender.send(otlp.spans(_SERVICE, late))

    def names() -> list[str]:
        return [span.name for span in traces.backends.tempo_trace(first.hex()) or []]

    poll_until(lambda: late.name in names(), "the late span", PATIENCE_SECONDS)


def test_gateway_forgets_the_traces_that_it_dropped(traces: Stack) -> None:
    with otlp.sender(traces.facts["OTLP_URL"], telemetry_headers(traces.facts)) as sender:
        for _ in range(4):
            spans = (otlp.span(_trace_id(_NOT_IN_SHARE), "many") for _ in range(_IN_MEMORY))
            sender.send(otlp.spans(_SERVICE, *spans))
            # Until they are decided on.
            time.sleep(4.0)
        kept = otlp.span(_trace_id(_IN_SHARE), "one")
        sender.send(otlp.spans(_SERVICE, kept))
    poll_until(
        lambda: traces.backends.tempo_trace(kept.trace_id.hex()), "a later trace", PATIENCE_SECONDS
    )


def test_dropped_spans_are_not_counted_as_lost(traces: Stack) -> None:
    [rules] = alerts.ledger.groups(interval="1m")
    came_in, left = (
        rule["expr"]
        for rule in rules["rules"]
        if rule.get("labels") == {"signal": "spans", "hop": "collector"}
    )

    def equal() -> bool:
        [entered] = traces.backends.prometheus(came_in)
        [gone] = traces.backends.prometheus(left)
        assert gone.value >= entered.value >= 2 * _TRACES * len(_KEPT | _DROPPED)
        return True

    poll_until(equal, "as many spans left as came in", PATIENCE_SECONDS)


def test_gateway_that_is_stopped_decides_on_waiting_traces_first(traces: Stack) -> None:
    # Without a root span, they are decided on after TRACE_WAIT.
    waiting = _Kind(share=_IN_SHARE, root=False)
    waiting.send(traces, "waiting")
    time.sleep(2.0)
    assert sum(waiting.found(traces)) == 0
    with stopped(traces, "gateway-1"), stopped(traces, "gateway-2"):
        pass
    poll_until(
        lambda: waiting.found(traces) == [1] * _TRACES, "the waiting traces", PATIENCE_SECONDS / 4
    )


def _trace_id(share: str) -> bytes:
    digits = secrets.token_hex(16)
    return bytes.fromhex(f"{digits[:18]}{share}{digits[22:]}")
