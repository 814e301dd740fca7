"""The stack that a drill breaks: separate from the user's, with rules whose windows are seconds."""

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
from drill.webhook import WebhookReceiver, webhook_receiver
from stack import facts as stack_facts
from stack import supervisor
from stack.backends import Backends
from stack.native import NativeStack
from stack.preflight import port_problems
from stack.secrets import backend_client
from stack.waiting import poll_until

# Paths of the receiver: the webhook, Slack's format, the watchdog.
ALERTS: Final = "/alerts"
CHAT: Final = "/chat"
WATCHDOG: Final = "/watchdog"
# service.name of the stack's own app.
APP: Final = "chatscope"
# Added to each port; differs from the offsets of tests and benchmarks.
_OFFSET: Final = 9_000
# The user's settings and receivers must not apply: only variables that programs need to run.
_KEPT: Final[tuple[str, ...]] = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME")
# An alert that fires before Prometheus has found Alertmanager, as the Watchdog may, is sent a
# minute later.
_QUIET_SECONDS: Final = 100.0
_COMPONENT_SECONDS: Final = 60.0

Alert = dict[str, Any]


def is_due_to_busy_machine(alert: Alert) -> bool:
    """Return whether it is an event loop lag alert on an overloaded machine.

    Such an alert is correct, whichever fault is injected: in the last 1, 5 or 15 minutes more
    processes were runnable than there are cores.
    """
    busy = max(os.getloadavg()) > (os.cpu_count() or 1)
    return busy and alert["labels"]["alertname"] == "EventLoopLagHigh"


class TargetError(RuntimeError):
    """The drill's stack cannot be used; the text contains the reason."""


@dataclass(frozen=True)
class Target:
    """The stack, clients of its backends, the alert receiver, the objectives, the alert rules."""

    stack: NativeStack
    backends: Backends
    receiver: WebhookReceiver
    objectives: Wanted
    rules: list[dict[str, Any]]

    @property
    def facts(self) -> dict[str, str]:
        return self.stack.facts

    def notified(self) -> list[Alert]:
        """Return each alert of the messages so far, once for each status it was sent with."""
        return self.receiver.alerts(ALERTS)

    def in_alertmanager(self, state: str) -> list[Alert]:
        """Return Alertmanager's alerts in a state: `active` or `suppressed`."""
        with backend_client(self.facts, "ALERTMANAGER_URL") as client:
            found = client.get("/api/v2/alerts").raise_for_status().json()
        return [alert for alert in found if alert["status"]["state"] == state]

    def kill(self, component: str) -> None:
        """Kill a component, without restart."""
        if pid := self.stack.states()[component].pid:
            os.kill(pid, signal.SIGKILL)
        self.stop(component)

    def stop(self, component: str) -> None:
        """Stop a component, without restart."""
        supervisor.stop_part(self.facts["STATE_DIR"], component)

    def start(self, component: str) -> None:
        """Start a component, and wait until it is ready."""
        supervisor.start_part(self.facts["STATE_DIR"], component)
        [part] = [each for each in self.stack.parts if each.name == component]
        poll_until(
            lambda: self.stack.is_ready(part), f"{component} to be ready", _COMPONENT_SECONDS
        )


@contextmanager
def target(directory: Path, service: str, grafana_home: str = "") -> Iterator[Target]:
    """Start the stack and wait until it is healthy and no alert is active.

    `service`: the service that the objectives apply to; `grafana_home`: home directory of a Grafana
    to start as well. Raises TargetError, and the exceptions of the stack's startup.
    """
    shutil.rmtree(directory, ignore_errors=True)
    objectives = read().model_copy(update={"service": service})
    rules = _write_rules(directory / "rules", objectives)
    with webhook_receiver() as receiver, _environment(receiver):
        facts = stack_facts.load(
            {
                **stack_facts.shifted(_OFFSET, {}),
                "STATE_DIR": str(directory / "state"),
                "RULES_DIR": str(directory / "rules"),
                "GRAFANA_HOME": grafana_home,
            }
        )
        stack = NativeStack(facts)
        # Processes of a drill that was killed.
        stack.stop()
        if problems := port_problems(facts, stack.parts):
            raise TargetError("\n".join([*problems[:-1], "Is another drill running?"]))
        with stack, Backends(facts) as backends:
            started = Target(stack, backends, receiver, objectives, rules)
            poll_until(
                lambda: _check_health(started),
                "a healthy stack without alerts",
                _QUIET_SECONDS,
                0.5,
            )
            yield started


def _write_rules(directory: Path, objectives: Wanted) -> list[dict[str, Any]]:
    """Write the rule files, and return their alert rules."""
    alerts = []
    for name, text in files(objectives, DRILL).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        groups = yaml.safe_load(text)["groups"]
        alerts += [rule for group in groups for rule in group["rules"] if "alert" in rule]
    return alerts


@contextmanager
def _environment(receiver: WebhookReceiver) -> Iterator[None]:
    """Replace the environment of this process, which its child processes inherit."""
    before = dict(os.environ)
    kept = {name: before[name] for name in _KEPT if name in before}
    own = {
        # Nor does a file .env apply.
        "COMPOSE_DISABLE_ENV_FILE": "1",
        "OTEL_SERVICE_NAME": APP,
        "ALERT_WEBHOOK_URL": receiver.url(ALERTS),
        "ALERT_SLACK_URL": receiver.url(CHAT),
        "ALERT_WATCHDOG_URL": receiver.url(WATCHDOG),
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


def _check_health(checked: Target) -> bool:
    """Return True if Prometheus scrapes each component and no alert of the startup is active.

    Raises TargetError, with the problems.
    """
    scraped = checked.backends.prometheus("up")
    active = {
        alert["labels"]["alertname"]
        for alert in checked.in_alertmanager("active")
        if not is_due_to_busy_machine(alert)
    }
    problems = [f"{each.labels.get('job')} does not respond" for each in scraped if not each.value]
    problems += [f"{name} fires" for name in sorted(active - {"Watchdog"})]
    if not scraped:
        problems.append("Prometheus has not scraped any component yet")
    if not checked.receiver.bodies(WATCHDOG):
        problems.append("the Watchdog alert has not arrived")
    if problems:
        raise TargetError(", ".join(problems))
    return True
