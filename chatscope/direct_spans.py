"""Server spans that behave like those of the SDK, at a fraction of their cost.

The SDK makes and cleans several objects for each span, and copies it for its processors. A span
that only the middleware has touched needs none of them: its attributes stay in the sets that they
came from, most of which are encoded once for many requests. Attributes that the application sets,
events and links are kept by the SDK's own classes, made when the first one comes.

Spans of other providers, samplers and span processors are the SDK's.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from time import time_ns
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.environment_variables import OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    Event,
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
)
from opentelemetry.util.types import AnyValue, Attributes

from chatscope.otlp import OtlpSpanProcessor
from chatscope.otlp.spans import encode_plain
from chatscope.otlp.values import PlainAttributes, copied

# Records everything, also where a client's `traceparent` says not to: the SDK's default lets any
# client turn its traces off.
RECORD_ALL: Final = ParentBased(ALWAYS_ON, remote_parent_not_sampled=ALWAYS_ON)

# Processors that only read ended spans. Others may override what the SDK alone can call.
_READERS: Final = (OtlpSpanProcessor, SimpleSpanProcessor, BatchSpanProcessor)
# More than the middleware sets itself.
_FEW_ATTRIBUTES: Final = 32
# In Python 3.11 it takes a while to get a member of an enumeration.
_SERVER: Final = SpanKind.SERVER
_UNSET: Final = Status(StatusCode.UNSET)
_NONE: Final = PlainAttributes()
# Where the SDK warns about the use of ended spans.
_log = logging.getLogger("opentelemetry.sdk.trace")


class DirectTracerProvider(TracerProvider):
    """An SDK provider that `ServerTracer` can make spans for."""

    def __init__(
        self,
        *,
        sampler: Sampler | None = None,
        resource: Resource | None = None,
        id_generator: IdGenerator | None = None,
        shutdown_on_exit: bool = True,
    ) -> None:
        self.span_limits = SpanLimits()
        super().__init__(
            sampler=sampler,
            resource=resource,
            id_generator=id_generator,
            span_limits=self.span_limits,
            shutdown_on_exit=shutdown_on_exit,
        )
        self.processors: tuple[SpanProcessor, ...] = ()
        # Whether the sampler and all processors are known, and the SDK does nothing else.
        self.is_direct = self._is_direct()

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Call `span_processor` for each span."""
        super().add_span_processor(span_processor)
        self.processors = (*self.processors, span_processor)
        self.is_direct = self._is_direct()

    def _is_direct(self) -> bool:
        return (
            self.sampler is RECORD_ALL
            # A text that is shortened twice is not the same.
            and self.span_limits.max_span_attribute_length is None
            and all(type(each) in _READERS for each in self.processors)
            and not os.environ.get(OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED)
        )


class ServerTracer:
    """Starts the server spans of one tracer: those of this module where its provider allows it."""

    def __init__(self, provider: TracerProvider, scope: str, version: str | None = None) -> None:
        """`provider` may be any; `scope` and `version` are those of the instrumentation."""
        self._tracer: Tracer = provider.get_tracer(scope, version)
        self._provider: DirectTracerProvider | None = None
        tracer = self._tracer
        # Another class does nothing: the SDK is disabled, or the scope is muted.
        if isinstance(provider, DirectTracerProvider) and type(tracer) is SdkTracer:
            self._provider = provider
            self.info = info = tracer.instrumentation_info
            self.scope = InstrumentationScope(info.name, info.version, info.schema_url)
            limits = self.limits = provider.span_limits
            most = limits.max_span_attributes
            self.drops_attributes = most is not None and most < _FEW_ATTRIBUTES
            random = provider.id_generator.is_trace_id_random()
            self._root_flags = _flags(random=random)

    def start_span(
        self,
        name: str,
        context: Context,
        shared: Mapping[str, str | int],
        own: dict[str, str | int],
    ) -> Span:
        """Start a span with `context` as its parent's.

        `shared` are attributes that many spans have, `own` others.
        """
        provider = self._provider
        parent = get_current_span(context).get_span_context() if context else None
        if parent is not None and not parent.is_valid:
            parent = None
        # The sampler asks a local parent.
        if (
            provider is None
            or not provider.is_direct
            or (parent is not None and not parent.is_remote)
        ):
            return self._tracer.start_span(name, context, SpanKind.SERVER, {**shared, **own})
        ids = provider.id_generator
        if parent is None:
            identity = SpanContext(
                ids.generate_trace_id(), ids.generate_span_id(), False, self._root_flags
            )
        else:
            flags = _flags(random=parent.trace_flags.random_trace_id)
            identity = SpanContext(
                parent.trace_id, ids.generate_span_id(), False, flags, parent.trace_state
            )
        span = ServerSpan(self, provider, name, identity, parent, shared, own)
        for processor in provider.processors:
            processor.on_start(span, context)
        return span


def _flags(*, random: bool) -> TraceFlags:
    return TraceFlags(TraceFlags.SAMPLED | (TraceFlags.RANDOM_TRACE_ID if random else 0))


class ServerSpan(SdkSpan):
    """A recorded and sampled server span.

    It replaces all public members of its base class, whose state it does not have.
    """

    _state = _UNSET
    _ended: int | None = None
    _happened: BoundedList[Event] | None = None
    _linked: BoundedList[Link] | None = None
    # The attributes: `_shared`, `_own` and these, until `_kept` has been made of them.
    _later: Mapping[str, str | int] = _NONE
    _kept: BoundedAttributes | None = None

    def __new__(cls, *_: Any) -> Self:
        """Skip the base class, which refuses to be called without a tracer."""
        return object.__new__(cls)

    def __init__(
        self,
        tracer: ServerTracer,
        provider: DirectTracerProvider,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        shared: Mapping[str, str | int],
        own: dict[str, str | int],
    ) -> None:
        self._of = tracer
        self._provider = provider
        self._called = name
        self._identity = context
        self._remote = parent
        self._process = provider.resource
        # Reentrant, unlike the SDK's: the garbage collector may end an abandoned request anywhere.
        self._guard = threading.RLock()
        self._shared = shared
        self._own = own
        if tracer.drops_attributes or type(shared) is not PlainAttributes or copied(own) is None:
            self._keep()
        self._began = time_ns()

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name="{self._called}", context={self._identity})'

    # -- What it has recorded

    @property
    def name(self) -> str:
        """The name, which `update_name` changes."""
        return self._called

    def get_span_context(self) -> SpanContext:
        """Return the IDs."""
        return self._identity

    @property
    def context(self) -> SpanContext:
        """The IDs."""
        return self._identity

    @property
    def kind(self) -> SpanKind:
        """Always that of a server."""
        return SpanKind.SERVER

    @property
    def parent(self) -> SpanContext | None:
        """The IDs of the client's span; None for the first span of a trace."""
        return self._remote

    @property
    def start_time(self) -> int:
        """Nanoseconds since the epoch."""
        return self._began

    @property
    def end_time(self) -> int | None:
        """Nanoseconds since the epoch; None until it has ended."""
        return self._ended

    @property
    def status(self) -> Status:
        """The status that was set last."""
        return self._state

    @property
    def attributes(self) -> Attributes:
        """All attributes, as they are and will be."""
        with self._guard:
            return MappingProxyType(self._keep() or {})

    @property
    def events(self) -> tuple[Event, ...]:
        """The newest events."""
        return tuple(self._happened or ())

    @property
    def links(self) -> tuple[Link, ...]:
        """The newest links."""
        return tuple(self._linked or ())

    @property
    def dropped_attributes(self) -> int:
        """The number of attributes beyond the limit."""
        return 0 if self._kept is None else self._kept.dropped

    @property
    def dropped_events(self) -> int:
        """The number of events beyond the limit."""
        return 0 if self._happened is None else self._happened.dropped

    @property
    def dropped_links(self) -> int:
        """The number of links beyond the limit."""
        return 0 if self._linked is None else self._linked.dropped

    @property
    def resource(self) -> Resource:
        """The process, as it was described when the span started."""
        return self._process

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """The scope of the tracer."""
        return self._of.scope

    @property
    def instrumentation_info(self) -> Any:
        """The deprecated form of the scope."""
        return self._readable_span().instrumentation_info

    def to_json(self, indent: int | None = 4) -> str:
        """Return everything as JSON."""
        return str(self._readable_span().to_json(indent))

    def _readable_span(self) -> ReadableSpan:
        """Return what processors get when the span has ended."""
        with self._guard:
            attributes = self._keep()
        return ReadableSpan(
            name=self._called,
            context=self._identity,
            parent=self._remote,
            resource=self._process,
            attributes=attributes,
            events=self._happened or (),
            links=self._linked or (),
            kind=SpanKind.SERVER,
            instrumentation_info=self._of.info,
            status=self._state,
            start_time=self._began,
            end_time=self._ended,
            instrumentation_scope=self._of.scope,
        )

    # -- What changes it

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return self._ended is None

    def start(self, start_time: int | None = None, parent_context: Context | None = None) -> None:
        """Do nothing: it was started when it was made."""
        _log.warning("Calling start() on a started span.")

    def update_name(self, name: str) -> None:
        """Replace the name."""
        with self._guard:
            if self._ended is None:
                self._called = name
                return
        _warn_ended("update_name")

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Set one attribute."""
        with self._guard:
            if self._ended is None:
                self._keep()[key] = value
                return
        _log.warning("Setting attribute on ended span.")

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Set several attributes."""
        with self._guard:
            if self._ended is None:
                if type(attributes) is PlainAttributes and self._is_new(attributes):
                    self._later = attributes
                else:
                    _add(self._keep(), attributes)
                return
        _log.warning("Setting attribute on ended span.")

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        """Add an event; the oldest is dropped beyond the limit."""
        limits = self._of.limits
        kept = BoundedAttributes(
            limits.max_event_attributes, attributes, max_value_len=limits.max_attribute_length
        )
        event = Event(name, kept, timestamp)
        with self._guard:
            if self._ended is None:
                if self._happened is None:
                    self._happened = BoundedList(limits.max_events)
                self._happened.append(event)
                return
        _warn_ended("_add_event")

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add a link to another span, unless it says nothing; the oldest is dropped."""
        if not (context and (context.is_valid or attributes or context.trace_state)):
            return
        limits = self._of.limits
        kept = BoundedAttributes(
            limits.max_link_attributes, attributes, max_value_len=limits.max_attribute_length
        )
        with self._guard:
            if self._ended is None:
                if self._linked is None:
                    self._linked = BoundedList(limits.max_links)
                self._linked.append(Link(context, kept))
                return
        _warn_ended("_add_link")

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status, unless it is OK already; UNSET changes nothing."""
        with self._guard:
            if self._ended is None:
                self._set_status(status, description)
                return
        _warn_ended("set_status")

    def end(self, end_time: int | None = None) -> None:
        """End the span and give it to the processors, once."""
        with self._guard:
            is_first = self._ended is None
            if is_first:
                self._ended = time_ns() if end_time is None else end_time
        if is_first:
            self._hand_over()
        else:
            _log.warning("Calling end() on an ended span.")

    def finish(
        self, name: str, attributes: Mapping[str, str | int], end_time: int | None = None
    ) -> None:
        """Update the name, set attributes that the span has not got yet, and end."""
        with self._guard:
            if self._ended is not None:
                return
            self._called = name
            if self._is_untouched() and type(attributes) is PlainAttributes:
                self._later = attributes
            else:
                _add(self._keep(), attributes)
            self._ended = time_ns() if end_time is None else end_time
        self._hand_over()

    def _hand_over(self) -> None:
        processors = self._provider.processors
        if len(processors) == 1 and type(processors[0]) is OtlpSpanProcessor:
            self._deliver(processors[0])
        else:
            readable = self._readable_span()
            for processor in processors:
                processor.on_end(readable)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Record an exception, and end."""
        if exc_val is not None and self.is_recording():
            self.record_exception(exc_val, escaped=True)
            self.set_status(Status(StatusCode.ERROR, f"{type(exc_val).__name__}: {exc_val}"))
        self.end()

    # -- With the lock

    def _keep(self) -> BoundedAttributes:
        """Return the attributes as the SDK keeps them."""
        if self._kept is None:
            limits = self._of.limits
            self._kept = BoundedAttributes(
                limits.max_span_attributes,
                {**self._shared, **self._own, **self._later},
                immutable=False,
            )
        return self._kept

    def _is_untouched(self) -> bool:
        """Whether the attributes are those of the start."""
        return self._kept is None and self._later is _NONE

    def _is_new(self, attributes: PlainAttributes) -> bool:
        """Whether these attributes can be kept as they are, beside those of the start."""
        keys = attributes.keys()
        return (
            self._is_untouched()
            and len(keys) < _FEW_ATTRIBUTES
            and keys.isdisjoint(self._shared)
            and keys.isdisjoint(self._own)
        )

    def _set_status(self, status: Status | StatusCode, description: str | None) -> None:
        if isinstance(status, Status):
            if description is not None and not self._keeps_status(status.status_code):
                _log.warning(
                    "Description %s ignored. Use either `Status` or `(StatusCode, Description)`",
                    description,
                )
        elif isinstance(status, StatusCode):
            status = Status(status, description)
        else:
            return
        if not self._keeps_status(status.status_code):
            self._state = status

    def _keeps_status(self, new: StatusCode) -> bool:
        return self._state.status_code is StatusCode.OK or new is StatusCode.UNSET

    # -- At the end

    def _deliver(self, processor: OtlpSpanProcessor) -> None:
        if (
            self._kept is not None
            or self._happened is not None
            or self._linked is not None
            or self._state is not _UNSET
        ):
            processor.on_end(self)
            return
        try:
            data = encode_plain(
                self._identity,
                self._remote,
                self._called,
                _SERVER,
                (self._began, self._ended or 0),
                (self._shared, self._own, self._later),
            )
        except Exception:
            processor.on_end(self)  # it reports the error
            return
        processor.deliver(self._process, self._of.scope, data)


def _add(kept: BoundedAttributes, attributes: Mapping[str, AnyValue]) -> None:
    # The limits of a conversion are those of all attributes together.
    converted = BoundedAttributes(attributes=attributes)
    kept.dropped += converted.dropped
    for name, value in converted.items():
        kept[name] = value


def _warn_ended(method: str) -> None:
    _log.warning("Tried calling %s on an ended span.", method)
