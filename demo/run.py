"""One run of the demo: people come, chat until a bound is reached or somebody stops it, and go."""

import os
import signal
import sys
import time
from typing import Any

import gevent

import chatscope
from demo import summary, telemetry
from demo.asking import AskError, HttpClient
from demo.models import DemoModels, free
from demo.people import KINDS, Searcher
from demo.settings import DemoSettings
from demo.shared import DemoEnvironment

_LINE_EVERY_SECONDS = 30.0


class CannotAskError(RuntimeError):
    """There is nobody, or no model, to ask; the text says why."""


def run(settings: DemoSettings) -> bool:
    """Whether the service answered. Raises CannotAskError before anything was asked."""
    models = DemoModels(_models(settings))
    kinds = [kind for kind in KINDS if models.has_embeddings or kind is not Searcher]
    telemetry.start()
    environment = DemoEnvironment(settings, models, kinds[: settings.users])
    environment.events.request.add_listener(_show_failure)  # type: ignore[no-untyped-call]
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, environment.over.set)
    _say(
        f"{settings.users} people ask {settings.url} up to {settings.questions} questions"
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
    # What a task did not expect is a bug of ours; its traceback was logged.
    return summary.answered(environment.stats) and not runner.exceptions


def _models(settings: DemoSettings) -> list[str]:
    client = HttpClient(settings.url)
    try:
        offered = client.models()
    except AskError as error:
        raise CannotAskError(
            f"CHATSCOPE_URL={settings.url} does not answer ({error}): is Chatscope up?"
        ) from error
    finally:
        client.close()
    if missing := [model for model in settings.models if model not in offered]:
        raise CannotAskError(
            f"DEMO_MODELS: {', '.join(missing)} not served; there are {', '.join(offered)}"
        )
    # An answer of the others may cost money: they are asked only by name.
    models = list(settings.models) or free(offered)
    if not models:
        raise CannotAskError(f"DEMO_MODELS: name some of {', '.join(offered)}; none is simulated")
    return models


def _wait(environment: DemoEnvironment, started: float, until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        if environment.over.wait(min(left, _LINE_EVERY_SECONDS)):
            return
        _say(_progress(environment, started))


def _progress(environment: DemoEnvironment, started: float) -> str:
    asked, failed = environment.budget.asked, environment.stats.total.num_failures
    return f"{time.monotonic() - started:.0f} s: {asked} questions, {failed} failures"


def _show_failure(request_type: str, name: str, exception: AskError | None, **_: Any) -> None:
    if exception:
        trace = f", trace {exception.trace_id}" if exception.trace_id else ""
        _say(f"failed: {request_type}, {name}: {exception.code}{trace}")


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Nobody reads any more: end as if told to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        signal.raise_signal(signal.SIGTERM)
