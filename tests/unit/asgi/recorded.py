"""Telemetry that a middleware records for one case, as flat facts that can be compared."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from chatscope.asgi import HttpTelemetry
from chatscope.direct_spans import DirectTracer, DirectTracerProvider
from chatscope.http_metrics import HttpMetrics
from chatscope.names import PREFIX
from chatscope.providers import build_views, choose_sampler
from chatscope.routes import RouteFinder
from chatscope.stable_http import stable_middleware
from chatscope.tally import Tallies
from tests.unit.asgi.cases import Case, Server, behave, starlette

Facts = dict[str, Any]
Build = Callable[[Any, TracerProvider, MeterProvider], Any]

_spans = InMemorySpanExporter()
_tracers = TracerProvider(choose_sampler(), shutdown_on_exit=False)
_direct = DirectTracerProvider(sampler=choose_sampler(), shutdown_on_exit=False)
for _each in (_tracers, _direct):
    _each.add_span_processor(SimpleSpanProcessor(_spans))
_VIEWS: Final = [
    view for view in build_views(PREFIX) if (view._instrument_name or "").startswith("http.")
]
_tallies = Tallies(InstrumentationScope("test"))
_APPS: Final = {"plain": behave, "starlette": starlette()}


def ours(app: Any, tracers: TracerProvider, meters: MeterProvider) -> Any:
    """Return our middleware around an application."""
    metrics = HttpMetrics(meters.get_meter("test"), _tallies)
    return HttpTelemetry(app, RouteFinder(app), DirectTracer.of(tracers, "test"), metrics)


def stock(app: Any, tracers: TracerProvider, meters: MeterProvider) -> Any:
    """Return the stock middleware around an application, with the stable conventions."""
    return stable_middleware(
        app, tracer_provider=tracers, meter_provider=meters, exclude_spans=["receive", "send"]
    )


async def record(case: Case, build: Build, *, direct: bool = False) -> Facts:
    """Serve one case and return the recorded facts, with our span objects if `direct`."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], views=_VIEWS, shutdown_on_exit=False)
    app = build(_APPS[case.app], _direct if direct else _tracers, meters)
    _spans.clear()
    _tallies.clear()
    server = Server(case)
    facts: Facts = {}
    try:
        await app(case.scope(), server.receive, server.send)
    except BaseException as error:
        facts["raised"] = type(error).__name__
    facts.update(_of_response(server))
    spans = _spans.get_finished_spans()
    facts["spans"] = len(spans)
    for span in spans:
        facts.update(_of_span(span))
    data = reader.get_metrics_data()
    for resource in _tallies.added_to(data).resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    facts.update(_of_point(metric.name, point, spans))
    meters.shutdown()
    return facts


def _of_response(server: Server) -> Facts:
    """Return the client's view, without the value of the trace ID header."""
    messages = []
    for message in server.sent:
        headers = [name for name, _ in message.get("headers", ())]
        messages.append({**message, "headers": headers} if headers else message)
    return {"response": messages}


def _of_span(span: ReadableSpan) -> Facts:
    parent = span.parent
    return {
        "span.name": span.name,
        "span.kind": span.kind.name,
        "span.status": span.status.status_code.name,
        "span.status.description": span.status.description,
        "span.parent": parent and f"{parent.trace_id:032x}-{parent.span_id:016x}",
        "span.state": span.context and span.context.trace_state.to_header(),
        "span.events": [event.name for event in span.events],
        **{f"span[{name}]": value for name, value in _plain(span.attributes).items()},
    }


def _of_point(name: str, point: Any, spans: tuple[ReadableSpan, ...]) -> Facts:
    facts = {f"{name}[{key}]": value for key, value in _plain(point.attributes).items()}
    if isinstance(point, HistogramDataPoint):
        facts[f"{name} count"] = point.count
        if name.endswith("size"):
            facts[f"{name} sum"] = point.sum
    else:
        facts[f"{name} value"] = point.value
    ids = {span.context.trace_id for span in spans if span.context}
    if isinstance(point, HistogramDataPoint):
        facts[f"{name} exemplars"] = {each.trace_id for each in point.exemplars} == ids
    return facts


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(attributes or {})
