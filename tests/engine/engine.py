"""The Docker engine for tests: a running one, unchanged, or a private one."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stack.docker import compose_files
from stack.facts import ROOT
from stack.images import BASE, IMAGES
from stack.machine import MachineError
from stack.parts import binary_path, cache_dir
from stack.way import CAN_BE_LEFT_OUT
from tests.engine import standins
from tests.engine.daemon import EngineError, private_engine

# An address without a listener, set in every container like a user's own client would: a request to
# the proxy instead of a neighbour fails.
PROXIES = {"httpProxy": "http://127.0.0.1:9", "httpsProxy": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Engine:
    """A responding engine; `variables` configure every docker client for it.

    `missing`: components without an image, with the reason; `private`: whether it belongs to the
    tests.
    """

    variables: dict[str, str]
    private: bool = False
    missing: dict[str, str] = field(default_factory=dict)

    def run(
        self, *words: str, environ: Mapping[str, str] | None = None, timeout: float = 300.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run one docker command in the checkout."""
        return subprocess.run(
            ["docker", *words],
            cwd=ROOT,
            env={**os.environ, **(environ or {}), **self.variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def asked(self, *words: str) -> str:
        """Return the output of a docker command. Raises EngineError if it fails."""
        done = self.run(*words)
        if done.returncode != 0:
            last = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise EngineError(f"docker {' '.join(words)}: {last}")
        return done.stdout.strip()

    def files(self, *, to_build: bool = False) -> dict[str, str]:
        """Return the variables with the compose files that this engine needs."""
        files = compose_files(self.asked("version", "--format", "{{.Server.Version}}"))
        if to_build and self.private:
            files.append("tests/engine/build.compose.yaml")
        return {"COMPOSE_FILE": os.pathsep.join(files)}


@contextlib.contextmanager
def ready_engine(grafana_home: str) -> Iterator[Engine]:
    """Provide an engine with the images of the stack. Raises EngineError with the reason.

    A running engine is used if it has the official images, and left unchanged; a private one gets
    replacements for them.
    """
    with contextlib.ExitStack() as until_the_end:
        temporary = tempfile.TemporaryDirectory(prefix="chatscope-")
        config = Path(until_the_end.enter_context(temporary))
        try:
            engine = _somebodys(config)
        except EngineError as why_not:
            try:
                host = _started(until_the_end, _data_root(until_the_end, config))
            except EngineError as reason:
                raise EngineError(f"{why_not}, and {reason}") from reason
            engine = _private(host, config, grafana_home)
        _build(engine)
        if "DOCKER_CONFIG" in engine.variables:
            (config / "config.json").write_text(json.dumps({"proxies": {"default": PROXIES}}))
        yield engine


def _somebodys(config: Path) -> Engine:
    engine = Engine({})
    if not shutil.which("docker") or engine.run("version").returncode != 0:
        raise EngineError("no Docker engine answers")
    missing = _not_pulled(engine)
    return Engine(_with_compose(engine, config).variables, missing=missing)


def _started(until_the_end: contextlib.ExitStack, data_root: Path) -> str:
    try:
        return until_the_end.enter_context(private_engine(data_root))
    except EngineError:
        # Data of a killed engine may be the reason why this one does not start.
        shutil.rmtree(data_root, ignore_errors=True)
        return until_the_end.enter_context(private_engine(data_root))


def _private(host: str, config: Path, grafana_home: str) -> Engine:
    # An image that was not pulled has no digest.
    names = {image.variable: image.tagged for image in (*IMAGES, BASE)}
    variables = {"DOCKER_HOST": host, "DOCKER_CONFIG": _our_compose(config), **names}
    missing = standins.make({**os.environ, **variables}, grafana_home)
    return Engine(variables, private=True, missing=missing)


def _with_compose(engine: Engine, config: Path) -> Engine:
    """Return a running engine, with its own docker compose or else with ours."""
    if engine.run("compose", "version").returncode == 0:
        return engine
    host = engine.asked("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    return Engine({"DOCKER_HOST": host, "DOCKER_CONFIG": _our_compose(config)})


def _our_compose(config: Path) -> str:
    """Return a directory for the client's configuration, with the built docker compose in it."""
    try:
        compose = binary_path("docker-compose")
    except MachineError as error:
        raise EngineError(f"no docker compose: {error}") from error
    if not compose.is_file():
        raise EngineError("not built: docker-compose (make build)")
    plugins = config / "cli-plugins"
    plugins.mkdir(exist_ok=True)
    (plugins / "docker-compose").symlink_to(compose)
    return str(config)


def _data_root(until_the_end: contextlib.ExitStack, temporary: Path) -> Path:
    """Return the directory of images and builds, kept for later sessions, one at a time."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    lock = until_the_end.enter_context((cache_dir() / "engine.lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return temporary / "data"
    return cache_dir() / "engine"


def _not_pulled(engine: Engine) -> dict[str, str]:
    """Return the optional images that a running engine does not have."""
    lacking = {
        image.part: image.reference
        for image in IMAGES
        if engine.run("image", "inspect", image.reference).returncode != 0
    }
    left_out = {
        name: f"the engine lacks {lacking.pop(name)}"
        for name in (CAN_BE_LEFT_OUT, "store")
        if name in lacking
    }
    if lacking:
        names = ", ".join(lacking.values())
        raise EngineError(f"the Docker engine lacks {names} (docker compose pull)")
    return left_out


def _build(engine: Engine) -> None:
    """Build our own images from the Dockerfile; a failure must not be skipped."""
    words = ("compose", "--profile", "*", "build")
    done = engine.run(*words, environ=engine.files(to_build=True), timeout=900)
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise RuntimeError(f"the Dockerfile's images could not be built: {last}")
