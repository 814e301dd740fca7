"""The Collector's parts list: one version, the same as in go.mod."""

import re

from tests.config.files import MANIFEST, parsed

GO_MOD = MANIFEST.with_name("go.mod")
KINDS = ("receivers", "processors", "connectors", "exporters", "extensions", "providers")


def modules() -> set[str]:
    """Each component as `module version`."""
    return {entry["gomod"] for kind in KINDS for entry in parsed(MANIFEST)[kind]}


def required() -> set[str]:
    """What go.mod requires, as `module version`."""
    return set(re.findall(r"^(?:require)?\s+(\S+ v\S+)", GO_MOD.read_text(), re.MULTILINE))


def test_go_mod_requires_each_component_in_the_same_version() -> None:
    assert modules() - required() == set()


def test_all_components_are_of_one_release() -> None:
    release = parsed(MANIFEST)["dist"]["version"]
    versions = {
        gomod.split()[1]
        for gomod in modules()
        # The providers belong to the Collector's stable core, which counts on its own.
        if "/confmap/provider/" not in gomod
    }
    assert versions == {f"v{release}"}


def test_the_builder_is_of_the_same_release() -> None:
    release = parsed(MANIFEST)["dist"]["version"]
    assert f"go.opentelemetry.io/collector/cmd/builder v{release}" in required()
