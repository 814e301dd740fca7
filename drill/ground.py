"""Where a drill takes place: a stack of its own, whose rules look at seconds."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from alerts.__main__ import files
from alerts.objectives import Wanted, read
from alerts.windows import DRILL
from drill.listener import Listener, listener
from stack import facts as stack_facts
from stack import supervisor
from stack.backends import Backends
from stack.native import NativeStack
from stack.preflight import port_problems
from stack.secrets import backend_client
from stack.waiting import poll_until

ALERTS: Final = "/alerts"
# The same in words, as a chat shows them.
CHAT: Final = "/chat"
WATCHDOG: Final = "/watchdog"
# What the stack's own app calls itself.
APP: Final = "chatscope"
# Away from a person's stack, and from those of the tests and the benchmarks.
_OFFSET: Final = 9_000
# A person's settings and receivers are theirs: of the environment only what programs need to run.
_KEPT: Final[tuple[str, ...]] = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME")
# An alert that fires before Prometheus has found Alertmanager, as the Watchdog may, is told
# a minute later.
_QUIET_SECONDS: Final = 100.0
_PART_SECONDS: Final = 60.0

Alert = dict[str, Any]


def is_of_a_busy_machine(alert: Alert) -> bool:
    """Whether it is about event loops that wake late, on a machine that had too much to do.

    It is right there, whatever else is broken: in one of the last 1, 5 or 15 minutes more
    processes wanted to run than there are cores.
    """
    busy = max(os.getloadavg()) > (os.cpu_count() or 1)
    return busy and alert["labels"]["alertname"] == "EventLoopLagHigh"


class GroundError(RuntimeError):
    """A drill cannot take place on this machine now; the text says why."""


@dataclass(frozen=True)
class Ground:
    """The stack, clients of its stores, who is told, what was promised, and the alerts' rules."""

    stack: NativeStack
    stores: Backends
    people: Listener
    wanted: Wanted
    rules: list[dict[str, Any]]

    @property
    def facts(self) -> dict[str, str]:
        return self.stack.facts

    def told(self) -> list[Alert]:
        """Each alert in the messages so far, in each status that it came with."""
        return self.people.alerts(ALERTS)

    def in_alertmanager(self, state: str) -> list[Alert]:
        """The alerts that it has: the `active` ones, which are told, or the `suppressed`."""
        with backend_client(self.facts, "ALERTMANAGER_URL") as client:
            found = client.get("/api/v2/alerts").raise_for_status().json()
        return [alert for alert in found if alert["status"]["state"] == state]

    def kill(self, part: str) -> None:
        """It dies at once, and is not started again."""
        if pid := self.stack.states()[part].pid:
            os.kill(pid, signal.SIGKILL)
        self.stop(part)

    def stop(self, part: str) -> None:
        """It is told to end, and is not started again."""
        supervisor.stop_part(self.facts["STATE_DIR"], part)

    def start(self, part: str) -> None:
        """Returns when it is ready."""
        supervisor.start_part(self.facts["STATE_DIR"], part)
        [known] = [each for each in self.stack.parts if each.name == part]
        poll_until(lambda: self.stack.is_ready(known), f"{part} to be ready", _PART_SECONDS)


@contextmanager
def ground(directory: Path, about: str, grafana_home: str = "") -> Iterator[Ground]:
    """The stack runs, all is well, and nobody has been told anything.

    `about`: the service that the objectives are about; `grafana_home`: of a Grafana that runs too.
    Raises GroundError, and what the start of a stack raises.
    """
    shutil.rmtree(directory, ignore_errors=True)
    wanted = read().model_copy(update={"service": about})
    rules = _write_rules(directory / "rules", wanted)
    with listener() as people, _environment(people):
        facts = stack_facts.load(
            {
                **stack_facts.shifted(_OFFSET, {}),
                "STATE_DIR": str(directory / "state"),
                "RULES_DIR": str(directory / "rules"),
                "GRAFANA_HOME": grafana_home,
            }
        )
        stack = NativeStack(facts)
        # What a drill left that was killed.
        stack.stop()
        if problems := port_problems(facts, stack.parts):
            raise GroundError("\n".join([*problems[:-1], "Is another drill running?"]))
        with stack, Backends(facts) as stores:
            made = Ground(stack, stores, people, wanted, rules)
            poll_until(lambda: _all_is_well(made), "all to be well", _QUIET_SECONDS, 0.5)
            yield made


def _write_rules(directory: Path, wanted: Wanted) -> list[dict[str, Any]]:
    """The alerts among them."""
    alerts = []
    for name, text in files(wanted, DRILL).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        groups = yaml.safe_load(text)["groups"]
        alerts += [rule for group in groups for rule in group["rules"] if "alert" in rule]
    return alerts


@contextmanager
def _environment(people: Listener) -> Iterator[None]:
    """Of this process and those that it starts."""
    before = dict(os.environ)
    kept = {name: before[name] for name in _KEPT if name in before}
    own = {
        # No .env either.
        "COMPOSE_DISABLE_ENV_FILE": "1",
        "OTEL_SERVICE_NAME": APP,
        "ALERT_WEBHOOK_URL": people.url(ALERTS),
        "ALERT_SLACK_URL": people.url(CHAT),
        "ALERT_WATCHDOG_URL": people.url(WATCHDOG),
        "ALERT_GROUP_WAIT": "2s",
        "ALERT_GROUP_INTERVAL": "2s",
    }
    os.environ.clear()
    os.environ.update({**kept, **own})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _all_is_well(ground: Ground) -> bool:
    """Each part was seen by Prometheus, and no alert is left of those who were late.

    Raises GroundError, with what is not well.
    """
    seen = ground.stores.prometheus("up")
    active = {
        alert["labels"]["alertname"]
        for alert in ground.in_alertmanager("active")
        if not is_of_a_busy_machine(alert)
    }
    problems = [f"{part.labels.get('job')} does not answer" for part in seen if not part.value]
    problems += [f"{name} fires" for name in sorted(active - {"Watchdog"})]
    if not seen:
        problems.append("Prometheus has not asked anybody yet")
    if not ground.people.came(WATCHDOG):
        problems.append("the Watchdog has not come")
    if problems:
        raise GroundError(", ".join(problems))
    return True
