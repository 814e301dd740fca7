"""The schemas of Kubernetes, of the Prometheus operator and of Strimzi, and what they reject.

The first two are files of Go modules, which are downloaded and not compiled: the OpenAPI
descriptions of Kubernetes' own API, and the definitions of the operator's types.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from openapi_schema_validator import OAS30Validator

from stack.build import run_go

# The newest that the module has, and the oldest version that the chart accepts.
KUBERNETES: Final = "1.30"
# Modules and their checksums.
_KUBERNETES: Final = (
    "sigs.k8s.io/kubectl-validate@v0.0.4",
    "h1:tGKuv0awYHn11Cb6KPsZKxUmHgavF46K3NvVH0Nse9U=",
)
_OPERATOR: Final = (
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
)

Object = dict[str, Any]


class SchemasError(RuntimeError):
    """A module is neither on this machine nor at its proxy."""


class Schemas:
    """Schemas by API version and kind; fields that they do not name are rejected, as
    `kubectl apply --validate=strict` does."""

    def __init__(self, directory: Path, more: Path | None = None) -> None:
        """`directory`: where Go is run; `more`: of further definitions, as KIND.yaml. Raise
        SchemasError."""
        kubernetes, operator = (_module(*each, directory) for each in (_KUBERNETES, _OPERATOR))
        self._builtin = kubernetes / "pkg" / "openapiclient" / "builtins" / KUBERNETES
        self._operator = operator / "example" / "prometheus-operator-crd"
        self._more = more
        self._schema = cache(self._find)

    def problems(self, found: Object) -> list[str]:
        """Return what is wrong with an object, with the path of each problem."""
        validator = OAS30Validator(self._schema(found["apiVersion"], found["kind"]))
        return [
            f"{found['kind']} {'.'.join(map(str, error.absolute_path))}: {error.message}"
            for error in validator.iter_errors(found)
        ]

    def _find(self, version: str, kind: str) -> Object:
        group, _, name = version.rpartition("/")
        definition = self._operator / f"{group}_{kind.lower()}s.yaml"
        if self._more and group == "kafka.strimzi.io":
            definition = self._more / f"{kind}.yaml"
        if definition.exists():
            spec = yaml.safe_load(definition.read_text())["spec"]
            [found] = [each for each in spec["versions"] if each["name"] == name]
            return dict(_closed(found["schema"]["openAPIV3Schema"]))
        folder = "apis" if "/" in version else "api"
        description = json.loads((self._builtin / folder / f"{version}.json").read_text())
        wanted = {"group": group, "version": name, "kind": kind}
        components = description["components"]["schemas"]
        [root] = [
            name
            for name, schema in components.items()
            if wanted in schema.get("x-kubernetes-group-version-kind", ())
        ]
        closed = {name: _closed(schema) for name, schema in components.items()}
        return {
            "allOf": [{"$ref": f"#/components/schemas/{root}"}],
            "components": {"schemas": closed},
        }


def _closed(schema: Any) -> Any:
    """Return a schema that rejects fields it does not name."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _closed(value) for name, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and "type" in schema and not is_open:
        found.setdefault("additionalProperties", False)
    return found


def _module(module: str, checksum: str, directory: Path) -> Path:
    """Return the directory of a module; download it once."""
    done = run_go(["go", "mod", "download", "-json", module], directory)
    if done.returncode != 0:
        raise SchemasError(f"{module} is neither on this machine nor at its proxy")
    found = json.loads(done.stdout)
    assert found["Sum"] == checksum
    return Path(found["Dir"])
