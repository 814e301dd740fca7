"""Responses of Tempo, Loki and Prometheus, and recorded messages, as the commands read them."""

import json
import re
from typing import Any, Final

from chatscope.cli import records
from chatscope.cli.errors import CommandError
from chatscope.cli.loki import Loki
from chatscope.cli.openai_format import messages_of, system_of, tools_of
from chatscope.cli.prometheus import Prometheus
from chatscope.cli.responses import Response, ratings
from chatscope.cli.screen import safe
from chatscope.cli.tempo import Tempo
from chatscope.cli.trace import Trace, as_object
from fuzz.source import Source, as_json
from fuzz.target import Target, ensure

# C0, C1, DEL, and marks that change the direction of a text.
_CONTROLS: Final = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _Answers:
    """In place of the backend's HTTP connection."""

    def __init__(self, found: Any) -> None:
        self._found = found

    def get(self, path: str, parameters: Any = None, *, optional: bool = False) -> Any:
        return self._found


def _with(client: Any, found: Any) -> Any:
    client._backend = _Answers(found)
    return client


_SPAN: Final = {
    "traceId": "AAAAAAAAAAAAAAAAAAAAAQ==",
    "spanId": "AAAAAAAAAAE=",
    "name": "n",
    "kind": "SPAN_KIND_SERVER",
    "startTimeUnixNano": "1",
    "endTimeUnixNano": "5",
    "status": {"code": "STATUS_CODE_ERROR", "message": "m"},
    "attributes": [
        {"key": "a", "value": {"intValue": "5"}},
        {"key": "b", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}},
        {
            "key": "c",
            "value": {"kvlistValue": {"values": [{"key": "d", "value": {"doubleValue": 1.5}}]}},
        },
    ],
    "events": [{"name": "e", "timeUnixNano": "3", "attributes": []}],
    "links": [{"traceId": "0" * 32, "spanId": "0" * 16}],
}
_SCOPES: Final = [{"scope": {"name": "s"}, "spans": [_SPAN]}]
_RESOURCE: Final = {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]}
_TRACES: Final = (
    json.dumps({"trace": {"resourceSpans": [{"resource": _RESOURCE, "scopeSpans": _SCOPES}]}}),
    json.dumps({"batches": [{"resource": _RESOURCE, "scopeSpans": _SCOPES}]}),
)
_WORDS: Final = (
    *(
        "trace",
        "batches",
        "resourceSpans",
        "scopeSpans",
        "spans",
        "scope",
        "resource",
        "attributes",
    ),
    *(
        "key",
        "value",
        "stringValue",
        "intValue",
        "boolValue",
        "doubleValue",
        "arrayValue",
        "values",
    ),
    *("kvlistValue", "bytesValue", "traceId", "spanId", "parentSpanId", "startTimeUnixNano"),
    *("endTimeUnixNano", "status", "events", "links", "timeUnixNano", "data", "result", "stream"),
    *("metric", "resultType", "vector", "scalar", "traces", "traceID", "NaN", "+Inf", "1"),
)


def _check_trace(data: bytes) -> None:
    found = Source(data).edited(_TRACES, _WORDS)
    tempo = _with(Tempo("http://a", {}), found)
    try:
        spans = tempo.trace("1")
    except CommandError:
        return
    if spans:
        as_json(as_object(Trace("1", spans, ())))


_LINES: Final = (
    json.dumps(
        {
            "data": {
                "result": [
                    {
                        "stream": {
                            "service_name": "s",
                            "trace_id": "1",
                            "span_id": "2",
                            "severity_text": "ERROR",
                            "gen_ai_evaluation_score_value": "1",
                        },
                        "values": [["1", "text"], ["2", "x", {}]],
                    }
                ]
            }
        }
    ),
)


def _check_lines(data: bytes) -> None:
    found = Source(data).edited(_LINES, _WORDS)
    loki = _with(Loki("http://a", {}, page_lines=500), found)
    try:
        for line in loki.newest("q", 0, 10, 500):
            records.add(records.table(), line)
            as_json(records.as_object(line))
            Response(line.time, "1", "2").merge(line)
        list(ratings(loki, "q", 0, 10))
    except CommandError:
        return


_SAMPLES: Final = (
    json.dumps(
        {"data": {"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1.5, "2"]}]}}
    ),
    json.dumps({"data": {"resultType": "scalar", "result": [1.5, "NaN"]}}),
)


def _check_samples(data: bytes) -> None:
    found = Source(data).edited(_SAMPLES, _WORDS)
    try:
        _with(Prometheus("http://a", {}), found).query("q")
    except CommandError:
        return


_RECORDED: Final = (
    json.dumps(
        [
            {
                "role": "user",
                "parts": [
                    {"type": "text", "content": "t"},
                    {
                        "type": "blob",
                        "modality": "image",
                        "mime_type": "image/png",
                        "content": "AA",
                    },
                    {"type": "uri", "modality": "image", "uri": "u"},
                    {"type": "file", "file_id": "f"},
                ],
            },
            {
                "role": "assistant",
                "name": "n",
                "parts": [
                    {"type": "tool_call", "id": "i", "name": "n", "arguments": {"a": 1}},
                    {"type": "refusal", "content": "no"},
                ],
            },
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "i", "response": {}}]},
        ]
    ),
    json.dumps([{"type": "function", "name": "n", "parameters": {}}]),
)


def _check_recorded(data: bytes) -> None:
    source = Source(data)
    text = as_json(
        source.edited(_RECORDED, ("parts", "role", "type", "content", "modality", "audio"))
    ).decode()
    as_json([*messages_of(text), *system_of(text), *map(dict, tools_of(text))])


def _check_screen(data: bytes) -> None:
    """A text of a backend cannot control the terminal."""
    shown = safe(data.decode("utf-8", "replace")).plain
    ensure(not _CONTROLS.search(shown), "a text has no controls of the terminal")


TARGETS: Final = (
    Target("tempo_trace", _check_trace, (b"\0", b"\1"), _WORDS),
    Target("loki_lines", _check_lines, (b"\0",), _WORDS),
    Target("prometheus_samples", _check_samples, (b"\0", b"\1"), _WORDS),
    Target("recorded_messages", _check_recorded, (b"\0", b"\1"), ()),
    Target("terminal_text", _check_screen, (b"a\x1b[31m\xc2\x9b\xe2\x80\xae\r\n\t",), (), 100),
)
