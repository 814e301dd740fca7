"""A gateway as one writes it by hand: Starlette, the official `openai` client, and uvicorn.

    python bench/competitors/openai_gateway.py TELEMETRY

It relays chat completions, JSON and streamed. TELEMETRY is what records the calls of the client:
`none`, `chatscope` or `openllmetry`. It listens on PORT, calls OPENAI_BASE_URL, and exports to
OTEL_EXPORTER_OTLP_ENDPOINT. It runs in the environment of its telemetry, which it alone imports.
"""
# ruff: noqa: PLC0415 - each environment has its packages only.

import os
import sys
from collections.abc import AsyncIterator

import openai
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


def record_by_chatscope() -> None:
    """As docs/recorders.md and docs/your-service.md describe it."""
    import chatscope

    chatscope.configure(service_name="gateway")
    chatscope.instrument_clients()


def record_by_openllmetry() -> None:
    """As the README of opentelemetry-instrumentation-openai describes it.

    The providers are those of https://opentelemetry.io/docs/languages/python/exporters/, with
    OTLP over gRPC. Texts are not recorded, as with chatscope: TRACELOOP_TRACE_CONTENT=false.
    """
    os.environ["TRACELOOP_TRACE_CONTENT"] = "false"
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracers)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics.set_meter_provider(MeterProvider([reader]))
    OpenAIInstrumentor().instrument()


def application() -> Starlette:
    """Return the gateway."""
    client = openai.AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="none")

    async def complete(request: Request) -> Response:
        asked = await request.json()
        response = await client.chat.completions.create(**asked)
        if not asked.get("stream"):
            return Response(response.model_dump_json(), media_type="application/json")

        async def events() -> AsyncIterator[str]:
            async for chunk in response:
                yield f"data: {chunk.model_dump_json()}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def ready(request: Request) -> Response:
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/readyz", ready),
        ]
    )


if __name__ == "__main__":
    recorders = {"chatscope": record_by_chatscope, "openllmetry": record_by_openllmetry}
    if sys.argv[1] != "none":
        recorders[sys.argv[1]]()
    uvicorn.run(application(), port=int(os.environ["PORT"]), log_level="warning")
