"""Parsed responses of the backends."""

from chatscope.cli.spans import spans
from stack import backends
from tests.unit.stack import answers


def test_sample_of_prometheus() -> None:
    [sample] = backends.samples(answers.PROMETHEUS)
    assert sample.labels["type"] == "prompt"
    assert (sample.value, sample.timestamp) == (15.0, 1795397628.513)


def test_exemplar_leads_to_its_trace() -> None:
    [exemplar] = backends.exemplars(answers.EXEMPLARS)
    assert exemplar.labels["trace_id"] == answers.TRACE_ID
    assert exemplar.series["le"] == "5"
    assert (exemplar.value, exemplar.timestamp) == (0.2, 1795397627.872)


def test_log_lines_come_oldest_first_with_their_metadata_apart() -> None:
    first, second = backends.log_lines(answers.LOKI)
    assert (first.line, second.line) == ("answered", "later")
    assert first.timestamp == 1795397627000000001
    assert first.stream == {"service_name": "chatscope"}
    assert first.metadata == {"severity_text": "INFO", "trace_id": answers.TRACE_ID}
    assert second.metadata == {}


def test_spans_come_earliest_first_with_ids_in_hex() -> None:
    root, child = spans(answers.TEMPO)
    assert root.trace_id == child.trace_id == answers.TRACE_ID
    assert (root.parent, child.parent) == ("", root.span_id)
    assert (root.kind, child.kind) == ("SERVER", "CLIENT")
    assert (root.status, child.status, child.status_message) == ("UNSET", "ERROR", "boo")


def test_span_has_its_attributes_events_links_and_resource() -> None:
    root, child = spans(answers.TEMPO)
    assert child.attributes == {"n": 3, "stream": True, "stop": ["a", "b"]}
    assert child.resource == {"service.name": "chatscope"}
    assert (child.events[0].name, child.events[0].attributes) == ("first token", {"x": 1.5})
    assert (child.links[0].trace_id, child.links[0].span_id) == (root.trace_id, root.span_id)


def test_ids_that_are_hex_already_stay() -> None:
    span = {
        "traceId": answers.TRACE_ID,
        "spanId": "da46fa302940c853",
        "name": "x",
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
    }
    [parsed] = spans({"batches": [{"scopeSpans": [{"spans": [span]}]}]})
    assert (parsed.trace_id, parsed.span_id) == (answers.TRACE_ID, "da46fa302940c853")
