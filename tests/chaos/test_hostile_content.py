"""Invalid telemetry that some senders send: nothing else is lost with it, and its loss counts."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from chatscope import names
from chatscope.otlp.values import MAX_TEXT_BYTES
from chatscope.providers import Providers, TelemetrySettings, build_providers
from dashboards import others
from ledger import otlp
from stack.local_http import local_client
from stack.secrets import (
    HEADERS_FILE,
    backend_client,
    headers_file,
    operator,
    telemetry_headers,
)
from stack.waiting import poll_until
from tests.chaos.watching import answers, counted, lines_discarded, lines_of, points_given_up, rises
from tests.running import Stack
from tests.stack.turns import MODEL, websocket_url

# Of an overloaded machine, which takes minutes for 100 MB.
_PATIENCE_SECONDS = 240.0
_BURST_LINES = 50_000
_BURST_LINE = "x" * 2_000
_LARGE = 5_000_000
_DISTINCT = 100_000
# Limits of the SDK and of the Collector's span metrics; one more set for all others.
_MOST_SUMS = 2_000
_MOST_SPAN_METRICS = 500
_NAMES = 2_000
_HOUR = 3600.0
_WRONG = b"\xff\xfe\xed\xa0"


@pytest.fixture(autouse=True)
def token(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the services of these tests in this process."""
    monkeypatch.setenv(HEADERS_FILE, headers_file(stack.facts))


@pytest.fixture
def service() -> str:
    return f"hostile-{uuid.uuid4().hex[:8]}"


@contextmanager
def _providers(stack: Stack, service: str, spool: Path) -> Iterator[Providers]:
    """Send telemetry without a service; at the end all of it has been sent."""
    settings = TelemetrySettings(
        service_name=service, endpoint=stack.facts["OTLP_URL"], spool_dir=spool
    )
    providers = build_providers(settings)
    try:
        yield providers
        poll_until(lambda: not _waiting(providers), "all to be sent", _PATIENCE_SECONDS)
    finally:
        providers.shutdown()


def _waiting(providers: Providers) -> int:
    assert providers.delivery
    return sum(
        len(each.queue) + each.backlog.items for each in providers.delivery.pipelines.values()
    )


@contextmanager
def _sender(stack: Stack) -> Iterator[otlp.Sender]:
    """Send telemetry of another sender while the service responds."""
    with (
        otlp.sender(stack.facts["OTLP_URL"], telemetry_headers(stack.facts)) as sender,
        answers(stack.facts),
    ):
        yield sender


def _sum(stack: Stack, metric: str, service: str, more: str = "") -> float:
    found = stack.backends.prometheus(f'sum({metric}{{service_name="{service}"{more}}})')
    return sum(sample.value for sample in found)


def _series(stack: Stack, service: str) -> float:
    return sum(s.value for s in stack.backends.prometheus(f'count({{service_name="{service}"}})'))


def _found(stack: Stack, service: str, count: int) -> dict[str, dict[str, str]]:
    """Return the log lines of a service, with their metadata."""

    def all_of_them() -> dict[str, dict[str, str]]:
        # As far back as the tests go.
        now = time.time()
        query = f'{{service_name="{service}"}}'
        lines = stack.backends.loki(query, now - 12 * _HOUR, now + _HOUR)
        assert len(lines) == count
        return {line.line: line.metadata for line in lines}

    return poll_until(all_of_them, f"{count} lines of {service}", _PATIENCE_SECONDS)


def _trace(stack: Stack, trace_id: str) -> dict[str, object]:
    """Return the attributes of a trace's only span, and its name."""
    [span] = poll_until(
        lambda: stack.backends.tempo_trace(trace_id), f"trace {trace_id}", _PATIENCE_SECONDS
    )
    return {"name": span.name, **span.attributes}


def test_each_line_of_a_burst_of_100_mb_is_found_or_counted(
    stack: Stack, service: str, tmp_path: Path
) -> None:
    with answers(stack.facts), _providers(stack, service, tmp_path) as providers:
        logger = providers.logger_provider.get_logger("burst")
        for number in range(_BURST_LINES):
            logger.emit(body=f"{number} {_BURST_LINE}")

    def even() -> bool:
        created = _sum(stack, names.LOG_METRICS.created.prometheus, service)
        lost = _sum(stack, names.LOG_METRICS.processed.prometheus, service, ', error_type!=""')
        refused = _sum(stack, names.LOG_METRICS.exported.prometheus, service, ', error_type!=""')
        assert (created, lines_of(stack, service)) == (_BURST_LINES, created - lost - refused)
        return True

    poll_until(even, "the account to be even", _PATIENCE_SECONDS)


def test_texts_of_5_mb_of_the_service_are_cut_and_say_so(
    stack: Stack, service: str, tmp_path: Path
) -> None:
    large = {"large": "x" * _LARGE}
    mark = f"[cut: {_LARGE} characters]"
    with answers(stack.facts), _providers(stack, service, tmp_path) as providers:
        tracer = providers.tracer_provider.get_tracer("hostile")
        spans = [
            tracer.start_span(n, attributes=a) for n, a in (("a", {}), ("b", large), ("c", {}))
        ]
        for span in spans:
            span.end()
        logger = providers.logger_provider.get_logger("hostile")
        for body, attributes in (("a", {}), ("x" * _LARGE, {}), ("b", large), ("c", {})):
            logger.emit(body=body, attributes=attributes)
    found = _found(stack, service, 4)
    [cut] = found.keys() - {"a", "b", "c"}
    for text in (cut, found["b"]["large"]):
        assert len(text.encode()) <= MAX_TEXT_BYTES
        assert text.endswith(mark)
    kept = [_trace(stack, f"{span.get_span_context().trace_id:032x}") for span in spans]
    assert [each["name"] for each in kept] == ["a", "b", "c"]
    assert str(kept[1]["large"]).endswith(mark)


def test_texts_of_5_mb_of_others_are_cut_or_counted_without_their_neighbours(
    stack: Stack, service: str
) -> None:
    large = "x" * _LARGE
    traces = [os.urandom(16) for _ in range(3)]
    with (
        _sender(stack) as sender,
        rises(lambda: lines_discarded(stack.facts, "structured_metadata_too_large"), by=1),
    ):
        sender.send(otlp.lines(service, otlp.line("a"), otlp.line(large), otlp.line("c")))
        sender.send(
            otlp.lines(service, otlp.line("d"), otlp.line("lost", {"x": large}), otlp.line("f"))
        )
        sender.send(
            otlp.spans(
                service,
                otlp.span(traces[0], "a"),
                otlp.span(traces[1], "b", {"large": large}),
                otlp.span(traces[2], "c"),
            )
        )
    found = _found(stack, service, 5)
    [line] = found.keys() - {"a", "c", "d", "f"}
    assert large.startswith(line)
    kept = [_trace(stack, trace.hex()) for trace in traces]
    assert [each["name"] for each in kept] == ["a", "b", "c"]
    assert 0 < len(str(kept[1]["large"])) < _LARGE


def test_wrong_bytes_of_others_are_replaced_or_counted_without_their_neighbours(
    stack: Stack, service: str
) -> None:
    """Invalid UTF-8, which protobuf's own libraries do not send."""
    traces = [os.urandom(16) for _ in range(3)]
    wrong = {b"WRON": _WRONG}

    def refused() -> float:
        name = others.PROMETHEUS_INVALID.prometheus
        return counted(stack.facts["PROMETHEUS_URL"], name, auth=operator(stack.facts))

    with _sender(stack) as sender, rises(refused, by=1):
        lines = [
            otlp.line("a"),
            otlp.line("WRON line", {"x": "WRON", "n": "nul \0"}),
            otlp.line("c\0"),
        ]
        sender.send(otlp.lines(service, *lines), wrong)
        spans = [otlp.span(traces[0], "a"), otlp.span(traces[1], "b\0", {"x": "WRON"})]
        sender.send(otlp.spans(service, *spans, otlp.span(traces[2], "c")), wrong)
        points = [otlp.point(1, {"x": value}) for value in ("a", "WRON", "nul \0")]
        sender.send(otlp.sums(service, "hostile", *points), wrong)
    assert _found(stack, service, 3).keys() == {"a", "���� line", "c\0"}
    kept = [_trace(stack, trace.hex()) for trace in traces]
    # Control characters and backslashes of names become `_` (docs/telemetry.md, identifiers).
    assert [each["name"] for each in kept] == ["a", "b_", "c"]
    assert kept[1]["x"] == "����"
    poll_until(
        lambda: _sum(stack, "hostile_total", service) == 2, "the other points", _PATIENCE_SECONDS
    )


def test_half_characters_in_telemetry_take_nothing_along(
    stack: Stack, service: str, tmp_path: Path
) -> None:
    """A Python string may contain surrogates, which UTF-8 cannot encode."""
    half = "half \ud800 \0"
    with answers(stack.facts), _providers(stack, service, tmp_path) as providers:
        tracer = providers.tracer_provider.get_tracer(half)
        spans = [tracer.start_span(name, attributes={half: half}) for name in ("a", half, "c")]
        for span in spans:
            span.end()
        logger = providers.logger_provider.get_logger(half)
        for body in ("a", half, "c"):
            logger.emit(body=body, attributes={half: half})
        counter = providers.meter_provider.get_meter("hostile").create_counter("halves")
        for value in ("a", half, "c"):
            counter.add(1, {"x": value})
    spelled = "half \\ud800 \0"
    assert _found(stack, service, 3).keys() == {"a", spelled, "c"}
    kept = [_trace(stack, f"{span.get_span_context().trace_id:032x}") for span in spans]
    assert [each["name"] for each in kept] == ["a", "half _ud800 _", "c"]
    assert {each[spelled] for each in kept} == {spelled}
    poll_until(lambda: _sum(stack, "halves_total", service) == 3, "its sums", _PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("question", "status"),
    [
        (b'"nul \\u0000 and \\ud83d\\ude00"', 200),
        (b'"half \\ud800"', 400),
        (b'"wrong \xff\xfe\xed\xa0"', 400),
    ],
)
def test_hostile_question_gets_its_answer_or_a_clear_refusal(
    stack: Stack, question: bytes, status: int
) -> None:
    body = b'{"model": "%b", "messages": [{"role": "user", "content": %b}]}'
    with answers(stack.facts), local_client(stack.facts["APP_URL"]) as client:
        answer = client.post(
            "/v1/chat/completions",
            content=body % (MODEL.encode(), question),
            headers={"content-type": "application/json"},
        )
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"]["code"] == "invalid_json"
    trace_id = answer.headers["x-trace-id"]
    poll_until(lambda: stack.backends.tempo_trace(trace_id), "its trace", _PATIENCE_SECONDS)


def test_hostile_question_over_the_socket_does_not_end_the_conversation(stack: Stack) -> None:
    with answers(stack.facts), connect(websocket_url(stack.facts)) as socket:
        ends = []
        for content in (r"half \ud800", r"nul \u0000 and \ud83d\ude00", "plain"):
            socket.send(f'{{"type": "message", "content": "{content}"}}')
            while (message := json.loads(socket.recv(timeout=30)))["type"] == "delta":
                pass
            ends.append(message)
    assert [end["type"] for end in ends] == ["error", "done", "done"]
    assert all(end["trace_id"] for end in ends)
    for end in ends:
        poll_until(
            lambda: stack.backends.tempo_trace(end["trace_id"]),  # noqa: B023
            "its trace", _PATIENCE_SECONDS,
        )  # fmt: skip


def test_very_many_values_of_an_attribute_are_bounded_and_no_count_is_lost(
    stack: Stack, service: str, tmp_path: Path
) -> None:
    with answers(stack.facts), _providers(stack, service, tmp_path) as providers:
        counter = providers.meter_provider.get_meter("hostile").create_counter("values")
        for value in range(_DISTINCT):
            counter.add(1, {"x": value})

    def bounded() -> bool:
        assert _sum(stack, "values_total", service) == _DISTINCT
        overflow = _sum(stack, "values_total", service, ', otel_metric_overflow="true"')
        assert overflow == _DISTINCT - _MOST_SUMS
        return True

    poll_until(bounded, "the sum of all values", _PATIENCE_SECONDS)
    values = stack.backends.prometheus(f'count(values_total{{service_name="{service}"}})')
    assert [sample.value for sample in values] == [_MOST_SUMS + 1]


def test_flood_of_names_is_stored_and_its_metrics_are_bounded(stack: Stack, service: str) -> None:
    """Send a span and a line for each; the span metrics of two thirds are above the limit."""
    traces = [os.urandom(16) for _ in range(_NAMES)]
    with _sender(stack) as sender:
        for first in range(0, _NAMES, 100):
            some = range(first, first + 100)
            sender.send(otlp.spans(service, *(otlp.span(traces[n], f"name {n}") for n in some)))
            sender.send(otlp.lines(service, *(otlp.line(f"{n}", {"name": f"{n}"}) for n in some)))

    def stored() -> bool:
        assert lines_of(stack, service) == _NAMES
        for number in range(0, _NAMES, 400):
            assert _trace(stack, traces[number].hex())["name"] == f"name {number}"
        assert _sum(stack, others.SPAN_CALLS.prometheus, service) == _NAMES
        return True

    poll_until(stored, "all of it", _PATIENCE_SECONDS)
    calls = f'count({others.SPAN_CALLS.prometheus}{{service_name="{service}"}})'
    assert [s.value for s in stack.backends.prometheus(calls)] == [_MOST_SPAN_METRICS + 1]
    overflow = _sum(stack, others.SPAN_CALLS.prometheus, service, ', otel_metric_overflow="true"')
    assert overflow == _NAMES - _MOST_SPAN_METRICS


def test_lines_and_spans_of_a_stepped_clock_are_kept_or_counted(stack: Stack, service: str) -> None:
    traces = [os.urandom(16) for _ in range(4)]
    with (
        _sender(stack) as sender,
        rises(lambda: lines_discarded(stack.facts, "too_far_in_future"), by=1),
    ):
        sender.send(
            otlp.lines(
                service,
                otlp.line("right"),
                otlp.line("lost", ahead=2 * _HOUR),
                otlp.line("ahead", ahead=_HOUR / 12),
                otlp.line("behind", ahead=-8 * _HOUR),
                otlp.line("right too"),
            )
        )
        sender.send(
            otlp.spans(
                service,
                otlp.span(traces[0], "right"),
                otlp.span(traces[1], "ahead", ahead=8 * _HOUR),
                otlp.span(traces[2], "behind", ahead=-8 * _HOUR),
                otlp.span(traces[3], "late", ahead=-_HOUR / 3),
            )
        )
    assert _found(stack, service, 4).keys() == {"right", "ahead", "behind", "right too"}
    kept = [_trace(stack, trace.hex())["name"] for trace in traces]
    assert kept == ["right", "ahead", "behind", "late"]
    # Older data is searched in blocks, which Tempo polls every five minutes.
    poll_until(
        lambda: _searched(stack, service, time.time() - _HOUR / 3) == [traces[3].hex()],
        "the late span by a search of its own time", _PATIENCE_SECONDS,
    )  # fmt: skip


def _searched(stack: Stack, service: str, around: float) -> list[str]:
    """Return a service's traces in Tempo around that time, within five minutes."""
    asked: dict[str, str | int] = {
        "q": f'{{ resource.service.name = "{service}" }}',
        "start": int(around - _HOUR / 12),
        "end": int(around + _HOUR / 12),
    }
    with backend_client(stack.facts, "TEMPO_URL") as client:
        answer = client.get("/api/search", params=asked).raise_for_status().json()
    return [str(trace["traceID"]).zfill(32) for trace in answer["traces"]]


def test_sums_of_a_stepped_clock_are_kept_or_counted(stack: Stack, service: str) -> None:
    """Prometheus rejects future samples, and with them the whole request of that process."""

    with _sender(stack) as sender, rises(lambda: points_given_up(stack.facts), by=1):
        for name, ahead in (("ahead", 2 * _HOUR), ("behind", -8 * _HOUR), ("right", 0.0)):
            sender.send(otlp.sums(service, f"clock_{name}", otlp.point(7, ahead=ahead)))

    def stored(name: str, ahead: float) -> list[float]:
        """Return the sum within five minutes around that time."""
        series = f'clock_{name}_total{{service_name="{service}"}}'
        query = f"last_over_time({series}[10m] offset {-ahead - _HOUR / 12:.0f}s)"
        return [sample.value for sample in stack.backends.prometheus(query)]

    for name, ahead in (("right", 0.0), ("behind", -8 * _HOUR)):
        poll_until(
            lambda: stored(name, ahead) == [7.0],  # noqa: B023
            f"the sum whose clock is {name}", _PATIENCE_SECONDS,
        )  # fmt: skip
    assert stored("ahead", 2 * _HOUR) == []
