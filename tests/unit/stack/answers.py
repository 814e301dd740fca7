"""Real responses of Prometheus 3, Loki 3.7 and Tempo 2.8, shortened."""

from typing import Any

TRACE_ID = "11f07b5415ba1c8e9d9736e64e795f52"

PROMETHEUS: Any = {
    "status": "success",
    "data": {
        "resultType": "vector",
        "result": [
            {
                "metric": {"__name__": "llm_token_usage_total", "type": "prompt"},
                "value": [1795397628.513, "15"],
            }
        ],
    },
}

EXEMPLARS: Any = {
    "status": "success",
    "data": [
        {
            "seriesLabels": {"__name__": "llm_response_time_seconds_bucket", "le": "5"},
            "exemplars": [
                {
                    "labels": {"span_id": "da46fa302940c853", "trace_id": TRACE_ID},
                    "value": "0.2",
                    "timestamp": 1795397627.872,
                }
            ],
        }
    ],
}

LOKI: Any = {
    "status": "success",
    "data": {
        "resultType": "streams",
        "encodingFlags": ["categorize-labels"],
        "result": [
            {
                "stream": {"service_name": "chatscope"},
                "values": [
                    ["1795397627872115019", "later", {}],
                    [
                        "1795397627000000001",
                        "answered",
                        {"structuredMetadata": {"severity_text": "INFO", "trace_id": TRACE_ID}},
                    ],
                ],
            }
        ],
    },
}

TEMPO: Any = {
    "batches": [
        {
            "resource": {
                "attributes": [{"key": "service.name", "value": {"stringValue": "chatscope"}}]
            },
            "scopeSpans": [
                {
                    "scope": {"name": "chat"},
                    "spans": [
                        {
                            "traceId": "EfB7VBW6HI6dlzbmTnlfUg==",
                            "spanId": "0UaJFvTt4Qs=",
                            "parentSpanId": "2kb6MClAyFM=",
                            "name": "chat simulated-1",
                            "kind": "SPAN_KIND_CLIENT",
                            "startTimeUnixNano": "1795397627871510099",
                            "endTimeUnixNano": "1795397627871587213",
                            "attributes": [
                                {"key": "n", "value": {"intValue": "3"}},
                                {"key": "stream", "value": {"boolValue": True}},
                                {
                                    "key": "stop",
                                    "value": {
                                        "arrayValue": {
                                            "values": [{"stringValue": "a"}, {"stringValue": "b"}]
                                        }
                                    },
                                },
                            ],
                            "events": [
                                {
                                    "timeUnixNano": "1795397627871555674",
                                    "name": "first token",
                                    "attributes": [{"key": "x", "value": {"doubleValue": 1.5}}],
                                }
                            ],
                            "links": [
                                {"traceId": "EfB7VBW6HI6dlzbmTnlfUg==", "spanId": "2kb6MClAyFM="}
                            ],
                            "status": {"message": "boo", "code": "STATUS_CODE_ERROR"},
                        },
                        {
                            "traceId": "EfB7VBW6HI6dlzbmTnlfUg==",
                            "spanId": "2kb6MClAyFM=",
                            "name": "POST /v1/chat/completions",
                            "kind": "SPAN_KIND_SERVER",
                            "startTimeUnixNano": "1795397627719303538",
                            "endTimeUnixNano": "1795397627872206030",
                            "status": {},
                        },
                    ],
                }
            ],
        }
    ]
}
