"""One run of the demo: starts simulated users, and stops them at a limit or on a signal."""

import os
import signal
import sys
import time
from typing import Any

import gevent

import chatscope
from demo import summary, telemetry
from demo.clients import HttpClient, RequestError
from demo.models import DemoModels, free
from demo.settings import DemoSettings
from demo.shared import DemoEnvironment
from demo.users import KINDS, Searcher

_LINE_EVERY_SECONDS = 30.0


class UnavailableError(RuntimeError):
    """The service or its models cannot be used; the text contains the reason."""


def run(settings: DemoSettings) -> bool:
    """Run the demo; return whether the service responded. Raises UnavailableError before that."""
    models = DemoModels(_models(settings))
    kinds = [kind for kind in KINDS if models.has_embeddings or kind is not Searcher]
    telemetry.start()
    environment = DemoEnvironment(settings, models, kinds[: settings.users])
    environment.events.request.add_listener(_show_failure)  # type: ignore[no-untyped-call]
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, environment.done.set)
    _say(
        f"{settings.users} users send up to {settings.questions} questions to {settings.url}"
        f" in up to {settings.seconds:g} s; models: {', '.join(models.names)}"
    )
    started = time.monotonic()
    runner = environment.create_local_runner()
    runner.start(settings.users, settings.spawn_rate)
    _wait(environment, started, started + settings.seconds)
    runner.quit()
    chatscope.shutdown()
    _say(_progress(environment, started))
    _say(summary.table(environment.stats))
    # An unexpected exception in a task is a bug of the demo; its traceback was logged.
    return summary.responded(environment.stats) and not runner.exceptions


def _models(settings: DemoSettings) -> list[str]:
    client = HttpClient(settings.url)
    try:
        offered = client.models()
    except RequestError as error:
        raise UnavailableError(
            f"CHATSCOPE_URL={settings.url} does not respond ({error}): is Chatscope up?"
        ) from error
    finally:
        client.close()
    if missing := [model for model in settings.models if model not in offered]:
        raise UnavailableError(
            f"DEMO_MODELS: {', '.join(missing)} not served; available: {', '.join(offered)}"
        )
    # Responses of other models may cost money: they are requested only if configured.
    models = list(settings.models) or free(offered)
    if not models:
        raise UnavailableError(
            f"DEMO_MODELS must name some of {', '.join(offered)}: none of them is simulated"
        )
    return models


def _wait(environment: DemoEnvironment, started: float, until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        if environment.done.wait(min(left, _LINE_EVERY_SECONDS)):
            return
        _say(_progress(environment, started))


def _progress(environment: DemoEnvironment, started: float) -> str:
    asked, failed = environment.budget.asked, environment.stats.total.num_failures
    return f"{time.monotonic() - started:.0f} s: {asked} questions, {failed} failures"


def _show_failure(request_type: str, name: str, exception: RequestError | None, **_: Any) -> None:
    if exception:
        trace = f", trace {exception.trace_id}" if exception.trace_id else ""
        _say(f"failed: {request_type}, {name}: {exception.code}{trace}")


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader closed the pipe: end as on a signal.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        signal.raise_signal(signal.SIGTERM)
