"""Our Helm chart, rendered by helm: what its tests share."""

import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from app.settings import Settings
from stack.facts import ROOT
from tests.config.files import KUBERNETES

Object = dict[str, Any]
Helm = Callable[..., "subprocess.CompletedProcess[str]"]
Render = Callable[..., list[Object]]

CHART = KUBERNETES / "chart"
STACK = ("--values", str(KUBERNETES / "values" / "chatscope.yaml"))
SCALED = ("--values", str(KUBERNETES / "values" / "scaled" / "chatscope.yaml"))
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
NAME = "app.kubernetes.io/name"
SECRETS = {
    str(field.validation_alias)
    for field in Settings.model_fields.values()
    if field.annotation == SecretStr | None
}
# Values for all that the chart can do, beside those of STACK.
EVERYTHING: dict[str, Any] = {
    "imagePullSecrets": [{"name": "registry"}],
    "secrets": {name: {"name": "chatscope", "key": name.lower()} for name in sorted(SECRETS)},
    "files": {
        "KEYS_FILE": {"secret": "chatscope", "key": "keys.toml"},
        "MODELS_FILE": {"configMap": "chatscope", "key": "models.toml"},
    },
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "podAnnotations": {"example.com/owner": "chat"},
    "networkPolicy": {
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress-nginx"}}}],
        "egress": [
            {
                "to": [{"podSelector": {"matchLabels": {NAME: "valkey"}}}],
                "ports": [{"port": 6379}],
            }
        ],
    },
}


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@pytest.fixture(scope="module")
def helm(
    binary: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run helm in the checkout, without a cluster and without the settings of the user."""
    home = tmp_path_factory.mktemp("helm")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binary("helm"), *arguments],
            cwd=ROOT,
            env={"HOME": str(home), "KUBECONFIG": str(home / "none")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def render(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Return the objects of the chart with these options, and these values as keywords."""
    values_file = tmp_path_factory.mktemp("values") / "values.json"

    @cache
    def rendered(options: tuple[str, ...], values: str) -> str:
        values_file.write_text(values)
        command = ("template", "chatscope", str(CHART), "--namespace", "prod")
        done = helm(*command, *options, "--values", str(values_file))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def objects(*options: str, **values: Any) -> list[Object]:
        text = rendered(options, json.dumps(values))
        return [each for each in yaml.load_all(text, Loader=_LOADER) if each]

    return objects


def one(objects: list[Object], kind: str, name: str = "chatscope") -> Object:
    """Return the object of that kind and name."""
    [found] = [
        each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name
    ]
    return found
