"""The table of images: those of docker-compose.yml, of the same releases as the built modules."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.facts import ROOT
from stack.images import BASE, IMAGES, SCALED_IMAGES, Image
from stack.parts import BINARIES
from stack.releases import wanted
from tests.config.files import COMPOSE, DOCKERFILE, MANIFEST, SCALED_MANIFEST, parsed

_ALL = (*IMAGES, *SCALED_IMAGES, BASE)
_BUILT = [image for image in _ALL if image.module]
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_EXACT = re.compile(r"v?\d+\.\d+\.\d+(-[a-z0-9-]+)?")

built = pytest.mark.parametrize("image", _BUILT, ids=lambda image: image.part)


def _compose_images() -> dict[str, str]:
    services = parsed(COMPOSE)["services"]
    # Images with `build` are built here, from the Dockerfile.
    return {name: service["image"] for name, service in services.items() if "build" not in service}


def _from_elsewhere() -> Iterator[str]:
    """Return the base images of the Dockerfile, without its own stages."""
    text = DOCKERFILE.read_text()
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        if image not in stages:
            yield defaults[image.strip("${}")]


def _module(image: Image) -> Path:
    """Return the path of the module's sources."""
    if not shutil.which("go"):
        pytest.skip("no Go to ask for the module's sources")
    command = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", image.module]
    found = subprocess.run(
        command,
        cwd=ROOT / "stack" / image.directory,
        env={**os.environ, "GOPROXY": "off", "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0 or not found.stdout.strip():
        pytest.skip(f"the sources of {image.module} are not on this machine")
    return Path(found.stdout.strip())


def test_compose_names_just_these_images() -> None:
    named = _compose_images()
    # Two more services that run once, with the same images.
    assert named.pop("checkout") == named["init"]
    assert named.pop("secrets") == named["gateway"]
    assert named == {image.part: f"${{{image.variable}:-{image.reference}}}" for image in IMAGES}


def test_dockerfile_begins_with_the_one_base() -> None:
    assert set(_from_elsewhere()) == {BASE.reference}


def test_every_image_is_pinned_to_one_release() -> None:
    assert [image for image in _ALL if not _EXACT.fullmatch(image.tag)] == []
    digests = [image.digest for image in _ALL if image.digest]
    assert [digest for digest in digests if not _DIGEST.fullmatch(digest)] == []
    assert len(digests) == len(set(digests))


def test_every_module_of_the_stack_has_its_image() -> None:
    # The native supervisor, and programs for tests and generators, run in no container.
    tools = {"process-compose", "docker-compose", "sloth", "govulncheck"}
    tools |= {"helm"}
    # Its image is the Collector's.
    tools |= {"collector-scaled"}
    modules = {binary.module for binary in BINARIES} - tools
    assert {image.directory for image in _BUILT} == modules


@built
def test_the_module_is_pinned_to_the_version_in_the_table(image: Image) -> None:
    go_mod = (ROOT / "stack" / image.directory / "go.mod").read_text()
    assert re.findall(
        rf"^(?:require )?\s*{image.module} (v\S+)(?: // indirect)?$", go_mod, re.MULTILINE
    ) == [image.version]


@built
def test_the_tag_follows_from_the_version(image: Image) -> None:
    release = image.tag.removeprefix("v")
    if image.part == "prometheus":
        # The Go module version of v3.16.0 is v0.316.0.
        minor, patch = re.fullmatch(r"v0\.3(\d\d)\.(\d+)", image.version).groups()  # type: ignore[union-attr]
        assert release == f"3.{int(minor)}.{patch}"
    elif image.part == "tempo":
        # A pseudo-version: only the sources contain the release.
        assert re.fullmatch(r"v1\.5\.1-0\.\d{14}-[0-9a-f]{12}", image.version)
    else:
        assert image.version == f"v{release}"


@pytest.mark.parametrize("manifest", [MANIFEST, SCALED_MANIFEST], ids=lambda path: path.parent.name)
def test_collectors_image_is_of_the_manifests_release(manifest: Path) -> None:
    [tag] = [image.tag for image in IMAGES if image.part == "collector"]
    assert parsed(manifest)["dist"]["version"] == tag


def test_kafkas_image_is_of_the_release_of_its_libraries() -> None:
    [tag] = [image.tag for image in SCALED_IMAGES if image.part == "kafka"]
    pom = (ROOT / "stack" / "scaled" / "pom.xml").read_text()
    assert re.findall(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>(.*)</version>", pom) == [
        tag
    ]


@pytest.mark.parametrize(
    "image",
    [image for image in _BUILT if image.part in ("prometheus", "alertmanager")],
    ids=lambda image: image.part,
)
def test_the_modules_own_version_file_names_the_tag(image: Image) -> None:
    assert (_module(image) / "VERSION").read_text().strip() == image.tag.removeprefix("v")


def test_tempos_sources_are_of_the_release_in_the_tag() -> None:
    [image] = [image for image in _BUILT if image.part == "tempo"]
    changes = (_module(image) / "CHANGELOG.md").read_text()
    # Releases, latest first; the last candidate and the release are on one line of commits.
    latest = re.findall(r"^# v(\d+\.\d+\.\d+)", changes, re.MULTILINE)[0]
    assert latest == image.tag


_PAGE = (ROOT / "docs" / "versions.md").read_text()


def _table(heading: str) -> dict[str, list[str]]:
    """The rows of the first table below a heading, by their first cell."""
    section = _PAGE.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| .* \|$", section, re.MULTILINE)
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_page_shows_the_version_of_every_image_and_of_the_supervisor() -> None:
    versions = {name.lower(): cells[0] for name, cells in _table("## Versions").items()}
    called = {"gateway": "caddy", "store": "valkey", "init": "busybox", "base": "python"}
    called |= {"s3": "versitygw"}
    for image in _ALL:
        release = re.match(r"v?([\d.]+)", image.tag)
        assert release
        assert versions[called.get(image.part, image.part)] == release[1]
    assert versions["process-compose"] == wanted("process-compose")


def test_page_tells_which_images_have_a_digest() -> None:
    shown = {name: cells[0] for name, cells in _table("## Images").items() if ":" in name}
    expected = {image.tagged: "pinned" if image.digest else "not known" for image in _ALL}
    assert shown == expected


def test_page_names_the_variable_of_every_image() -> None:
    named = set(re.findall(r"`([A-Z0-9]+_IMAGE)`", _PAGE))
    assert named == {image.variable for image in _ALL}


def test_licences_of_images_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "licences.md").read_text()
    called = {"gateway": "Caddy", "store": "Valkey", "init": "BusyBox", "base": "Python"}
    called |= {"s3": "versitygw"}
    for image in _ALL:
        name = called.get(image.part, image.part.capitalize())
        row = re.search(rf"^\| (?:OpenTelemetry )?{name}\b.*$", page, re.MULTILINE)
        assert row
        assert f"| {image.licence} |" in row[0]
