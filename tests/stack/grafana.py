"""The Grafana of the tests: GRAFANA_URL, or that of the stack; without one they are skipped."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template

import pytest

from stack import facts as stack_facts
from stack import grafana, secrets
from stack.local_http import local_client
from stack.native import NativeStack
from stack.waiting import poll_until
from tests.config.files import PROCESSES, parsed
from tests.running import PATIENCE_SECONDS, Stack


def grafana_url(stack: Stack) -> str:
    """Return its address; skip, with the reason, without one."""
    # For a stack without its own Grafana, the variable names another one.
    missing = stack.running.missing.get("grafana")
    if missing and not os.environ.get("GRAFANA_URL"):
        pytest.skip(f"no Grafana: {missing}")
    return stack.facts["GRAFANA_URL"]


@contextmanager
def grafana_alone(
    directory: Path, facts: Mapping[str, str], environ: Mapping[str, str]
) -> Iterator[str]:
    """Run only a Grafana, like the native stack, with these facts and variables; yield its URL.
    Skip without one."""
    loaded = stack_facts.load(
        {
            "GRAFANA_HOME": os.environ.get("GRAFANA_HOME", ""),
            "STATE_DIR": str(directory),
            **facts,
        }
    )
    if not loaded["GRAFANA_HOME"]:
        pytest.skip(f"no Grafana: {grafana.MISSING}")
    stack = NativeStack(loaded)
    stack.prepare()
    secrets.make(loaded)
    environment = {**stack.environment(), **environ}
    process = parsed(PROCESSES)["processes"]["grafana"]
    words = [Template(word).substitute(environment) for word in process["entrypoint"]]
    for word in process["environment"]:
        name, _, value = Template(word).substitute(environment).partition("=")
        environment[name] = value
    with (
        subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as running,
        local_client(loaded["GRAFANA_URL"], timeout=PATIENCE_SECONDS) as client,
    ):
        try:
            poll_until(
                lambda: client.get("/api/health").is_success,
                "Grafana to be ready",
                # It creates its database first.
                2 * PATIENCE_SECONDS,
            )
            yield loaded["GRAFANA_URL"]
        finally:
            running.terminate()
