"""Access of containers to the checkout and this machine, before any component starts."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from stack.facts import ROOT
from tests.engine.engine import PROXIES, Engine

_PROJECT = "chatscope-checkout"
_ENVIRON = {
    "COMPOSE_PROJECT_NAME": _PROJECT,
    "COMPOSE_DISABLE_ENV_FILE": "1",
    "PRICES_FILE": "",
    "MODELS_FILE": "",
    "KEYS_FILE": "",
    "NO_PROXY": "",
    "no_proxy": "",
}
_COPIED = (
    *("docker-compose.yml", "Dockerfile", "requirements.txt", "requirements-demo.txt"),
    *("otel-collector-config.yaml", "prometheus", "loki", "tempo", "alertmanager"),
    *(
        "grafana-provisioning",
        "gateway",
        "stack/stack.env",
        "app",
        "chatscope",
        "demo",
        ".dockerignore",
    ),
    *("deploy/unset.toml", "deploy/store.conf"),
)

Done = subprocess.CompletedProcess[str]
Compose = Callable[..., Done]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout that was made under `umask 077`."""
    copy = tmp_path / "checkout"
    for name in _COPIED:
        source, target = ROOT / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for place in (copy, *copy.rglob("*")):
        place.chmod(place.stat().st_mode & 0o700)
    return copy


@pytest.fixture
def compose(engine: Engine, checkout: Path) -> Iterator[Compose]:
    """Run `docker compose` on that checkout; remove everything from the engine afterwards."""

    def run(*words: str, environ: Mapping[str, str] | None = None) -> Done:
        files = ("--file", str(checkout / "docker-compose.yml"))
        return engine.run("compose", *files, *words, environ={**_ENVIRON, **(environ or {})})

    yield run
    run("down", "--volumes", "--timeout", "1")


def test_unreadable_checkout_is_reported_with_the_command_that_fixes_it(
    compose: Compose, checkout: Path
) -> None:
    refused = compose("run", "--rm", "checkout")
    said = refused.stdout + refused.stderr
    assert refused.returncode == 1, said
    for name in ("otel-collector-config.yaml", "prometheus", "grafana-provisioning", "prices.json"):
        assert name in said
    [mend] = [line.strip() for line in said.splitlines() if line.startswith("chmod ")]
    subprocess.run(["bash", "-euc", mend], cwd=checkout, check=True)
    mended = compose("run", "--rm", "checkout")
    assert mended.returncode == 0, mended.stderr


def test_price_table_that_is_not_there_is_an_error_and_is_not_created(
    compose: Compose, checkout: Path
) -> None:
    refused = compose("run", "--rm", "checkout", environ={"PRICES_FILE": "nobody.json"})
    assert refused.returncode != 0
    assert str(checkout / "nobody.json") in refused.stderr
    assert not (checkout / "nobody.json").exists()


def test_image_can_be_read_by_its_user_whatever_the_modes_of_its_sources(
    engine: Engine, compose: Compose, checkout: Path
) -> None:
    image = f"{_PROJECT}-app"
    overlay = checkout / "overlay.yaml"
    # The package index is reached without the proxies that the other tests set.
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    build: dict[str, object] = {"args": dict.fromkeys(names, "")}
    if engine.private:
        build["network"] = "host"
    overlay.write_text(json.dumps({"services": {"app": {"image": image, "build": build}}}))
    built = compose("--file", str(overlay), "build", "app")
    assert built.returncode == 0, built.stderr
    try:
        run = ("run", "--rm", "--network", "none", image, "python", "-c", "import app.main")
        imported = engine.run(*run)
        assert imported.returncode == 0, imported.stderr
    finally:
        engine.run("rmi", "--force", image)


def test_proxies_of_the_docker_client_leave_the_parts_alone(
    engine: Engine, compose: Compose
) -> None:
    """The stack of this layer uses them; `compose` removes what this test creates."""
    if "DOCKER_CONFIG" not in engine.variables:
        pytest.skip("the engine is somebody else's, and so is the configuration of its client")
    environ = {**engine.files(), **_ENVIRON}
    done = engine.run("compose", "run", "--rm", "--no-deps", "app", "env", environ=environ)
    assert done.returncode == 0, done.stderr
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert seen["HTTP_PROXY"] == seen["http_proxy"] == PROXIES["httpProxy"]
    assert seen["NO_PROXY"] == seen["no_proxy"]
    assert {"collector", "prometheus", "localhost"} <= set(seen["NO_PROXY"].split(","))
