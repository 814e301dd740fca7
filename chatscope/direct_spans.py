"""Spans that behave like those of the SDK, at a fraction of their cost.

The SDK makes and cleans several objects for each span, and copies it for its processors. A span
whose attributes are plain and are set once needs none of them: they stay in the sets that they
came from, some of which are encoded once for many requests. Other attributes, events and links are
kept by the SDK's own classes, made when the first one comes.

Spans of other providers, samplers and span processors are the SDK's.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from time import time_ns
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context, get_current
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
# More than the package sets itself.
_FEW_ATTRIBUTES: Final = 64
# In Python 3.11 it takes a while to get a member of an enumeration.
_SERVER: Final = SpanKind.SERVER
_INTERNAL: Final = SpanKind.INTERNAL
_UNSET: Final = Status(StatusCode.UNSET)
_NONE: Final = PlainAttributes()
# Where the SDK warns about the use of ended spans.
_log = logging.getLogger("opentelemetry.sdk.trace")


class DirectTracerProvider(TracerProvider):
    """An SDK provider that a `DirectTracer` can make spans for."""

    def __init__(
        self,
        *,
        sampler: Sampler | None = None,
        resource: Resource | None = None,
        id_generator: IdGenerator | None = None,
        shutdown_on_exit: bool = True,
    ) -> None:
        self.span_limits = SpanLimits()
        self._direct: dict[SdkTracer, DirectTracer] = {}
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

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        """Return a tracer; one that does nothing if the SDK is disabled."""
        tracer = super().get_tracer(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        if type(tracer) is not SdkTracer:
            return tracer
        found = self._direct.get(tracer)
        if found is None:
            found = self._direct[tracer] = DirectTracer(tracer, self, attributes)
        return found

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


class DirectTracer(SdkTracer):
    """A tracer of a provider: its spans are those of this module where the provider allows it.

    Its base class makes spans with `start_span`; the state of that is in `_tracer`.
    """

    def __init__(
        self,
        tracer: Tracer,
        provider: DirectTracerProvider | None = None,
        attributes: Attributes = None,
    ) -> None:
        """`tracer` makes the other spans, without a provider all of them; `attributes` are those
        of the scope."""
        self._tracer = tracer
        self._provider: DirectTracerProvider | None = None
        if provider is not None and type(tracer) is SdkTracer:
            self._provider = provider
            self.info = info = tracer.instrumentation_info
            self.scope = InstrumentationScope(info.name, info.version, info.schema_url, attributes)
            limits = self.limits = provider.span_limits
            most = limits.max_span_attributes
            self.drops_attributes = most is not None and most < _FEW_ATTRIBUTES
            random = provider.id_generator.is_trace_id_random()
            self._root_flags = _flags(random=random)

    @classmethod
    def of(cls, provider: TracerProvider, scope: str, version: str | None = None) -> Self:
        """Return a tracer of any provider; `scope` and `version` are of the instrumentation."""
        tracer = provider.get_tracer(scope, version)
        return tracer if isinstance(tracer, cls) else cls(tracer)

    def __getattr__(self, name: str) -> Any:
        """Return what else the SDK's tracer has."""
        if name == "_tracer":  # not yet: a copy is being made
            raise AttributeError(name)
        return getattr(self._tracer, name)

    def start_span(  # noqa: PLR0913, PLR0917 - the API's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = _INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """Start a span as the SDK does: a child of the current one, unless `context` is given."""
        plain = copied(attributes) if type(attributes) is dict else None if attributes else {}
        usual = record_exception and set_status_on_exception and not links and start_time is None
        if usual and plain is not None:
            at = get_current() if context is None else context
            if (span := self._start(name, at, kind, (_NONE, plain))) is not None:
                return span
        return self._tracer.start_span(
            name,
            context,
            kind,
            attributes,
            links,
            start_time,
            record_exception,
            set_status_on_exception,
        )

    def start_server_span(
        self,
        name: str,
        context: Context,
        shared: Mapping[str, str | int],
        own: dict[str, str | int],
    ) -> Span:
        """Start a span with `context` as its parent's.

        `shared` are attributes that many spans have, `own` others.
        """
        is_plain = type(shared) is PlainAttributes and copied(own) is not None
        span = self._start(name, context, _SERVER, (shared, own), is_plain=is_plain)
        return span or self._tracer.start_span(name, context, _SERVER, {**shared, **own})

    def _start(
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        sets: tuple[Mapping[str, str | int], dict[str, Any]],
        *,
        is_plain: bool = True,
    ) -> Span | None:
        """Start a span of this module; return None where it must be the SDK's.

        `is_plain` if the attributes in `sets` need no conversion.
        """
        provider = self._provider
        if provider is None or not provider.is_direct:
            return None
        parent = get_current_span(context).get_span_context() if context else None
        if parent is not None and not parent.is_valid:
            parent = None
        ids = provider.id_generator
        if parent is None:
            identity = SpanContext(
                ids.generate_trace_id(), ids.generate_span_id(), False, self._root_flags
            )
        elif parent.is_remote or parent.trace_flags.sampled:
            flags = _flags(random=parent.trace_flags.random_trace_id)
            identity = SpanContext(
                parent.trace_id, ids.generate_span_id(), False, flags, parent.trace_state
            )
        else:
            return None
        span = DirectSpan(self, provider, (name, kind), identity, parent, sets)
        if self.drops_attributes or not is_plain:
            span._keep()
        for processor in provider.processors:
            processor.on_start(span, context)
        return span


def _flags(*, random: bool) -> TraceFlags:
    return TraceFlags(TraceFlags.SAMPLED | (TraceFlags.RANDOM_TRACE_ID if random else 0))


class DirectSpan(SdkSpan):
    """A recorded and sampled span.

    It replaces all public members of its base class, whose state it does not have.
    """

    _state = _UNSET
    _ended: int | None = None
    _happened: BoundedList[Event] | None = None
    _linked: BoundedList[Link] | None = None
    # The attributes: `_shared`, `_own` and these, until `_kept` has been made of them.
    _later: Mapping[str, Any] = _NONE
    _kept: BoundedAttributes | None = None

    def __new__(cls, *_: Any) -> Self:
        """Skip the base class, which refuses to be called without a tracer."""
        return object.__new__(cls)

    def __init__(
        self,
        tracer: DirectTracer,
        provider: DirectTracerProvider,
        called: tuple[str, SpanKind],
        context: SpanContext,
        parent: SpanContext | None,
        sets: tuple[Mapping[str, str | int], dict[str, Any]],
    ) -> None:
        self._of = tracer
        self._provider = provider
        self._called, self._kind_of = called
        self._identity = context
        self._remote = parent
        self._process = provider.resource
        # Reentrant, unlike the SDK's: the garbage collector may end an abandoned request anywhere.
        self._guard = threading.RLock()
        self._shared, self._own = sets
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
        """Its role in the trace."""
        return self._kind_of

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
            kind=self._kind_of,
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
                if not self._add_plain({key: value}):
                    self._keep()[key] = value
                return
        _log.warning("Setting attribute on ended span.")

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Set several attributes."""
        with self._guard:
            if self._ended is None:
                if not self._add_plain(attributes):
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

    def _add_plain(self, attributes: Mapping[str, AnyValue]) -> bool:
        """Add attributes that are new and plain beside those of the start, if it is possible."""
        if self._kept is not None:
            return False
        kind = type(attributes)
        added = attributes if kind is PlainAttributes else None
        if kind is dict:
            added = copied(cast("dict[str, Any]", attributes))
        if added is None:
            return False
        keys, later = added.keys(), self._later
        if len(keys) + len(later) + len(self._own) + len(self._shared) > _FEW_ATTRIBUTES or not (
            keys.isdisjoint(self._shared) and keys.isdisjoint(self._own) and keys.isdisjoint(later)
        ):
            return False
        self._later = {**later, **added} if later else added
        return True

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
                self._kind_of,
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
