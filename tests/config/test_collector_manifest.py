"""The Collector's manifest: one version, the same as in go.mod."""

import re

from tests.config.files import MANIFEST, parsed

GO_MOD = MANIFEST.with_name("go.mod")
KINDS = ("receivers", "processors", "connectors", "exporters", "extensions", "providers")
# The module proxy has no later one.
OF_ANOTHER_RELEASE = (
    "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/httpcheckreceiver v0.152.0"
)


def modules() -> set[str]:
    """Each component as `module version`."""
    return {entry["gomod"] for kind in KINDS for entry in parsed(MANIFEST)[kind]}


def required() -> set[str]:
    """Return the requirements of go.mod, as `module version`."""
    return set(re.findall(r"^(?:require)?\s+(\S+ v\S+)", GO_MOD.read_text(), re.MULTILINE))


def test_go_mod_requires_each_component_in_the_same_version() -> None:
    assert modules() - required() == set()


def test_all_components_but_one_are_of_one_release() -> None:
    release = parsed(MANIFEST)["dist"]["version"]
    versions = {
        gomod.split()[1]
        for gomod in modules()
        # Providers belong to the Collector's stable core, which has its own version numbers.
        if "/confmap/provider/" not in gomod and not gomod.startswith(OF_ANOTHER_RELEASE)
    }
    assert versions == {f"v{release}"}


def test_the_builder_is_of_the_same_release() -> None:
    release = parsed(MANIFEST)["dist"]["version"]
    assert f"go.opentelemetry.io/collector/cmd/builder v{release}" in required()
