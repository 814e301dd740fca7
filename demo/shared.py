"""What the people of one run share: whom they ask, and how many questions are left."""

import time
from collections.abc import Sequence

from gevent.event import Event
from locust import User
from locust.env import Environment

from demo.models import DemoModels
from demo.settings import DemoSettings
from demo.story import is_peak

# On their way when it ends, answers may still come for this long: less than the ten seconds
# after which `docker stop` kills.
_LAST_ANSWERS_SECONDS = 5.0


class Budget:
    """The questions that may still be asked; `over` is set with the last of them."""

    def __init__(self, questions: int, over: Event) -> None:
        self.asked = 0
        self._left = questions
        self._over = over

    def take(self, wanted: int = 1) -> int:
        """As many of `wanted` questions as there are left."""
        got = min(wanted, self._left)
        self._left -= got
        self.asked += got
        if self._left == 0:
            self._over.set()
        return got


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
