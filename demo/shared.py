"""What the people of one run share: whom they ask, and how many questions are left."""

import time
from collections.abc import Sequence

from gevent.event import Event
from locust import User
from locust.env import Environment

from demo.models import DemoModels
from demo.settings import DemoSettings
from demo.story import is_peak

# Stopped by a signal or by its time, the demo waits this long for pending answers: less than the
# ten seconds after which `docker stop` kills.
_LAST_ANSWERS_SECONDS = 5.0


class Budget:
    """The questions that may still be asked; `over` is set once the last of them has ended."""

    def __init__(self, questions: int, over: Event) -> None:
        self.asked = 0
        self._left = questions
        self._pending = 0
        self._over = over

    def take(self, wanted: int = 1) -> int:
        """Return as many of `wanted` questions as are left; each must be `ended`."""
        got = min(wanted, self._left)
        self._left -= got
        self._pending += got
        self.asked += got
        return got

    def ended(self) -> None:
        """Count a question as answered, failed or cut off."""
        self._pending -= 1
        if self.is_spent and not self._pending:
            self._over.set()

    @property
    def is_spent(self) -> bool:
        """Whether no question is left."""
        return self._left == 0


class DemoEnvironment(Environment):
    """Locust's environment, with what our people look up in it."""

    def __init__(
        self, settings: DemoSettings, models: DemoModels, kinds: Sequence[type[User]]
    ) -> None:
        super().__init__(
            user_classes=list(kinds), host=settings.url, stop_timeout=_LAST_ANSWERS_SECONDS
        )
        self.url = settings.url
        self.models = models
        self.pace = settings.pace
        # Set when nobody shall ask any more.
        self.over = Event()
        self.budget = Budget(settings.questions, self.over)

    @property
    def is_peak(self) -> bool:
        """Whether it is the time of long prompts."""
        return is_peak(time.time() * self.pace)
