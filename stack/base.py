"""The common interface of both ways to run the stack: start, readiness, stop."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx2

from stack.local_http import local_client
from stack.parts import Part
from stack.supervisor import ProcessState
from stack.waiting import poll_until

TAIL_LINES = 15


class PartDiedError(RuntimeError):
    """A component exited during startup; the text contains the end of its log."""


class Stack(ABC):
    """One stack, identified by STATE_DIR. A context manager: ready inside, removed afterwards."""

    # The way it runs, after the word "running".
    kind: str
    # Components that a stack of one machine does not have.
    more_parts: tuple[Part, ...] = ()
    ready_timeout_s = 60.0
    poll_interval_s = 0.05

    def __init__(self, facts: Mapping[str, str]) -> None:
        self.facts = dict(facts)
        self._restarts_before: dict[str, int] | None = None

    @property
    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """The components that run, or will be started."""

    @property
    def listeners(self) -> tuple[Part, ...]:
        """The components with ports of this machine, also those without a readiness URL."""
        return self.parts

    @property
    @abstractmethod
    def missing(self) -> dict[str, str]:
        """The other components by name, with the reason and the way to get them."""

    @abstractmethod
    def start(self) -> None:
        """Start all components, without waiting until they are ready."""

    @abstractmethod
    def running(self) -> bool:
        """Return whether the stack was started and not stopped; it may not be ready yet."""

    @abstractmethod
    def states(self, *, usage: bool = False) -> dict[str, ProcessState]:
        """Return each component's state, empty if the stack does not run; `usage`: with memory."""

    @abstractmethod
    def stop(self) -> bool:
        """Stop all components of this stack, in order; return False if none was running."""

    @abstractmethod
    def log_tail(self, name: str, lines: int = TAIL_LINES) -> str:
        """Return the last lines of a component's log since the stack's start, oldest first."""

    @abstractmethod
    def show_logs(self, names: Sequence[str], lines: int, *, follow: bool) -> bool:
        """Print the last lines of each component's log, and new lines with `follow`.

        Returns False if there are no logs.
        """

    def dispose(self) -> None:
        """Stop the stack and remove temporary data, at the end of a context manager."""
        self.stop()

    def wait_ready(
        self, timeout: float | None = None, on_ready: Callable[[Part], None] | None = None
    ) -> None:
        """Wait until every component is ready; call `on_ready` for each of them.

        Raises PartDiedError if one exits meanwhile, WaitError after `timeout` seconds.
        """
        waiting = list(self.parts)
        if self._restarts_before is None:
            # Started by another process: ignore earlier restarts.
            states = self.states().values()
            self._restarts_before = {state.name: state.restarts for state in states}

        def all_ready() -> bool:
            self.raise_if_dead()
            for part in [part for part in waiting if self.is_ready(part)]:
                waiting.remove(part)
                if on_ready:
                    on_ready(part)
            if waiting:
                raise RuntimeError(f"not ready: {', '.join(part.name for part in waiting)}")
            return True

        patience = timeout or self.ready_timeout_s
        poll_until(
            all_ready,
            "all components to be ready",
            patience,
            self.poll_interval_s,
            giving_up_on=(PartDiedError,),
        )

    def is_ready(self, part: Part) -> bool:
        """Return whether the component's readiness URL responds with success now."""
        with local_client(timeout=2.0) as client:
            try:
                return client.get(part.readiness(self.facts)).is_success
            except httpx2.TransportError:
                return False

    def raise_if_dead(self) -> None:
        """Raise PartDiedError if a component has exited since the start, even if restarted."""
        before = self._restarts_before or {}
        for state in self.states().values():
            if state.ended(before.get(state.name, 0)):
                raise PartDiedError(
                    f"{state.name} exited with code {state.exit_code}; the end of its log"
                    f" (full log: make logs PART={state.name}):\n{self.log_tail(state.name)}"
                )

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.dispose()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.dispose()
