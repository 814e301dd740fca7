"""State shared by the users of one run: the service's address, and the remaining questions."""

import time
from collections.abc import Sequence

from gevent.event import Event
from locust import User
from locust.env import Environment

from demo.models import DemoModels
from demo.settings import DemoSettings
from demo.story import is_peak

# After a signal or at the time limit, the demo waits this long for pending responses: less than the
# ten seconds after which `docker stop` kills it.
_LAST_ANSWERS_SECONDS = 5.0


class Budget:
    """The remaining questions; sets `done` once the last of them has ended."""

    def __init__(self, questions: int, done: Event) -> None:
        self.asked = 0
        self._left = questions
        self._pending = 0
        self._done = done

    def take(self, wanted: int = 1) -> int:
        """Take up to `wanted` questions, and return their number; call `ended` for each."""
        got = min(wanted, self._left)
        self._left -= got
        self._pending += got
        self.asked += got
        return got

    def ended(self) -> None:
        """Count a question as completed, failed or cancelled."""
        self._pending -= 1
        if self.is_spent and not self._pending:
            self._done.set()

    @property
    def is_spent(self) -> bool:
        """Whether no question is left."""
        return self._left == 0


class DemoEnvironment(Environment):
    """Locust's environment with the demo's shared state."""

    def __init__(
        self, settings: DemoSettings, models: DemoModels, kinds: Sequence[type[User]]
    ) -> None:
        super().__init__(
            user_classes=list(kinds), host=settings.url, stop_timeout=_LAST_ANSWERS_SECONDS
        )
        self.url = settings.url
        self.models = models
        self.pace = settings.pace
        # Set when no more questions shall be sent.
        self.done = Event()
        self.budget = Budget(settings.questions, self.done)

    @property
    def is_peak(self) -> bool:
        """Whether it is the time of the long prompts."""
        return is_peak(time.time() * self.pace)
