"""What the two ways of running have in common: readiness, and an end for each start."""

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
    """A part ended while we waited for it; the text has the end of its log."""


class Stack(ABC):
    """One stack, known by its STATE_DIR. As a context manager: ready inside, gone after."""

    # How it runs, in words: "running …".
    kind: str
    ready_timeout_s = 60.0
    poll_interval_s = 0.05

    def __init__(self, facts: Mapping[str, str]) -> None:
        self.facts = dict(facts)
        self._restarts_before: dict[str, int] | None = None

    @property
    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """The parts that run here, or are to."""

    @property
    @abstractmethod
    def missing(self) -> dict[str, str]:
        """The other parts by name: why each does not run here, and how to get it."""

    @abstractmethod
    def start(self) -> None:
        """Starts all parts, without waiting for all to be ready."""

    @abstractmethod
    def running(self) -> bool:
        """Whether this stack was started and not stopped; its parts may still be starting."""

    @abstractmethod
    def states(self, *, usage: bool = False) -> dict[str, ProcessState]:
        """What is known of each part, nothing when the stack does not run; `usage`: memory too."""

    @abstractmethod
    def stop(self) -> bool:
        """Stops what this stack started, in order; False when nothing was running."""

    @abstractmethod
    def log_tail(self, name: str, lines: int = TAIL_LINES) -> str:
        """The last lines that a part wrote since the stack was started, oldest first."""

    @abstractmethod
    def show_logs(self, names: Sequence[str], lines: int, *, follow: bool) -> bool:
        """Prints the last lines of each part; goes on until interrupted when told to.

        False when there are no logs.
        """

    def dispose(self) -> None:
        """Leaves nothing that must not stay: for whoever used the stack as a context manager."""
        self.stop()

    def wait_ready(
        self, timeout: float | None = None, on_ready: Callable[[Part], None] | None = None
    ) -> None:
        """Returns when every part says it is ready; `on_ready` hears of each of them.

        Raises PartDiedError when one ends meanwhile, WaitError after `timeout` seconds.
        """
        waiting = list(self.parts)
        if self._restarts_before is None:
            # Somebody else started it; what happened before is not our concern.
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
            "all parts to be ready",
            patience,
            self.poll_interval_s,
            giving_up_on=(PartDiedError,),
        )

    def is_ready(self, part: Part) -> bool:
        """Whether the part's own readiness URL answers with success now."""
        with local_client(timeout=2.0) as client:
            try:
                return client.get(part.readiness(self.facts)).is_success
            except httpx2.TransportError:
                return False

    def raise_if_dead(self) -> None:
        """Raises PartDiedError when a part has ended since the start, started again or not."""
        before = self._restarts_before or {}
        for state in self.states().values():
            if state.ended(before.get(state.name, 0)):
                raise PartDiedError(
                    f"{state.name} ended with exit code {state.exit_code}; the end of its log"
                    f" (all of it: make logs PART={state.name}):\n{self.log_tail(state.name)}"
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
