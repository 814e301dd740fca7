"""The bills of materials: valid CycloneDX, and complete."""

import json
import re
import subprocess
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from chatscope import __version__
from sbom.__main__ import ROOT, of_service
from sbom.documents import of_binary, of_images, text
from stack.images import BASE, IMAGES
from stack.parts import BINARIES
from tests.builds import wait_for_binaries


def _valid(document: str) -> dict[str, Any]:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document)
    assert problem is None, problem
    found: dict[str, Any] = json.loads(document)
    return found


def _without_times(document: str) -> str:
    return re.sub(r'"(timestamp|serialNumber)": "[^"]*"', "", document)


def test_images_have_tag_digest_and_licence() -> None:
    found = _valid(text(of_images((*IMAGES, BASE))))
    named = {component["name"]: component for component in found["components"]}
    assert set(named) == {image.name for image in (*IMAGES, BASE)}
    for image in (*IMAGES, BASE):
        component = named[image.name]
        assert component["version"] == image.tag
        assert component["licenses"] == [{"license": {"id": image.licence}}]
        assert (image.digest or image.tag) in component["purl"].replace("%3A", ":")
        hashes = [each["content"] for each in component.get("hashes", [])]
        assert hashes == ([image.digest.removeprefix("sha256:")] if image.digest else [])


@pytest.mark.slow
def test_service_has_the_packages_of_its_requirements_with_hashes() -> None:
    found = _valid(of_service())
    pinned = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.txt").read_text(), re.M)
    assert [(each["name"], each["version"]) for each in found["components"]] == pinned
    assert found["metadata"]["component"]["version"] == __version__
    assert all(each["externalReferences"][0]["hashes"] for each in found["components"])


@pytest.mark.slow
def test_go_component_has_the_modules_that_it_is_linked_from() -> None:
    # Where it is built, Go has the sources.
    wait_for_binaries(["process-compose"])
    [binary] = [each for each in BINARIES if each.name == "process-compose"]
    document = text(of_binary(binary))
    found = _valid(document)
    named = {component["name"]: component for component in found["components"]}
    main = named["github.com/f1bonacc1/process-compose"]
    assert main["version"].removeprefix("v") == found["metadata"]["component"]["version"]
    assert main["purl"] == f"pkg:golang/github.com/f1bonacc1/process-compose@{main['version']}"
    sums = (binary.directory / "go.sum").read_text()
    assert {f"{name} {each['version']} h1:" in sums for name, each in named.items()} == {True}
    assert all(
        re.fullmatch("[0-9a-f]{64}", each["hashes"][0]["content"]) for each in named.values()
    )
    assert _without_times(document) == _without_times(text(of_binary(binary)))


def test_make_sbom_runs_it() -> None:
    done = subprocess.run(
        ["make", "-n", "sbom"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "-m sbom" in done.stdout
