"""Chooses how the stack runs: in containers, or as native processes."""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from stack.base import Stack
from stack.docker import DockerError, DockerStack, docker, engine_version
from stack.facts import FactsError, is_loopback, own_environment
from stack.native import NativeStack
from stack.progress import Progress
from stack.recorded import recorded
from stack.scaled.native import ScaledStack

WAYS = ("docker", "native")
OLDEST_COMPOSE = (2, 24)
# Optional: without it the stack works, but has no dashboards.
CAN_BE_LEFT_OUT = "grafana"
_APP_IMAGE = "chatscope-app"

Facts = Mapping[str, str]


class WayError(RuntimeError):
    """The requested way to run is not possible; the text contains the reason."""


@dataclass(frozen=True)
class Choice:
    """The chosen way to run, the reason, and the components that are left out, with reasons."""

    way: str
    reason: str
    without: dict[str, str] = field(default_factory=dict)

    def stack(self, facts: Facts) -> Stack:
        """Return the stack that runs this way, not yet started."""
        return DockerStack(facts, self.without) if self.way == "docker" else native(facts)


def native(facts: Facts) -> NativeStack:
    """Return the stack as native processes: of one machine, or scaled."""
    return ScaledStack(facts) if facts.get("TOPOLOGY") == "scaled" else NativeStack(facts)


def asked() -> str | None:
    """Return the value of RUN; None if it is unset. Raises FactsError."""
    run = own_environment().get("RUN") or None
    if run not in (None, *WAYS):
        raise FactsError([f"RUN={run!r} is not accepted: it must be docker or native, or unset"])
    return run


def candidates(wanted: Facts) -> list[Stack]:
    """Return a stack for each way that RUN allows, with the facts of a running one."""
    facts, run = recorded(wanted), asked()
    ways: dict[str, Callable[[Facts], Stack]] = {"native": native, "docker": DockerStack}
    return [stack(facts) for way, stack in ways.items() if run in (None, way)]


def running(wanted: Facts) -> Stack | None:
    """Return the running stack, whichever process started it."""
    return next((stack for stack in candidates(wanted) if stack.running()), None)


def choose(facts: Facts, progress: Progress) -> Choice:
    """Return the way of RUN; by default Docker if its requirements are met.

    Pulls and builds images to find out. Raises WayError if RUN requires Docker and it is not
    possible.
    """
    run = asked()
    if run == "native":
        return Choice("native", "set by RUN")
    if facts.get("TOPOLOGY") == "scaled":
        if run == "docker":
            raise WayError(
                "TOPOLOGY=scaled runs natively; for containers, use deploy/scale.compose.yaml"
            )
        return Choice("native", "TOPOLOGY is scaled")
    try:
        if run is None:
            _fits(own_environment())
        version = _usable_engine()
        without = _images(facts, progress)
    except WayError as why_not:
        if run == "docker":
            raise
        return Choice("native", str(why_not))
    reason = "set by RUN" if run else f"Docker Engine {version} responds, its images are available"
    return Choice("docker", reason, without)


def _fits(environ: Mapping[str, str]) -> None:
    host = urlsplit(environ.get("OPENAI_BASE_URL") or "").hostname
    if host and is_loopback(host):
        raise WayError("OPENAI_BASE_URL is on this machine's loopback, unreachable for containers")


def _usable_engine() -> str:
    try:
        version = engine_version()
        address = urlsplit(docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}"))
    except DockerError as error:
        raise WayError(f"no Docker engine responds ({str(error).splitlines()[-1]})") from error
    if address.hostname and not is_loopback(address.hostname):
        raise WayError(f"the Docker engine is on another machine, {address.hostname}")
    try:
        compose = docker("compose", "version", "--short").strip().removeprefix("v")
    except DockerError as error:
        raise WayError("docker compose is not installed") from error
    # A development build may not know its version.
    numbers = compose.split(".")[:2]
    if all(number.isdigit() for number in numbers) and tuple(map(int, numbers)) < OLDEST_COMPOSE:
        oldest = ".".join(map(str, OLDEST_COMPOSE))
        raise WayError(f"docker compose is {compose}, and {oldest} or newer is needed")
    return version


def _images(facts: Facts, progress: Progress) -> dict[str, str]:
    """Pull and build missing images; return the components to leave out, with reasons."""
    stack = DockerStack(facts)
    without = {}
    for service, image in _pinned_images(stack).items():
        if _is_here(image):
            continue
        progress.say(f"Fetching {image}")
        # The command's own progress is shown: some images are hundreds of MB.
        done = subprocess.run(
            ["docker", "pull", image], stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode == 0:
            continue
        # "Error response from daemon: Get …: no such host": the last part is the reason.
        why = done.stderr.strip().rpartition(": ")[2] or "no reason given"
        if service != CAN_BE_LEFT_OUT:
            raise WayError(f"the image {image} is not available: {why}")
        without[service] = f"its image is not available: {why}"
    with progress.activity("Building the service's image"):
        done = stack.compose("build", "app")
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        if not _is_here(_APP_IMAGE):
            raise WayError(f"the service's image cannot be built: {last}")
        progress.say(f"The service's image could not be rebuilt, an older one is used: {last}")
    return without


def _pinned_images(stack: DockerStack) -> dict[str, str]:
    """Return the image of each service that is not built here."""
    services = stack.configuration()["services"]
    return {name: service["image"] for name, service in services.items() if "build" not in service}


def _is_here(image: str) -> bool:
    try:
        docker("image", "inspect", image)
    except DockerError:
        return False
    return True
