"""The bills of materials of the images and of the Go components, as CycloneDX documents."""

import base64
from collections.abc import Iterable
from typing import Final

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from chatscope import __version__
from stack.build import run_go, sources
from stack.images import IMAGES, Image
from stack.parts import Binary
from stack.releases import wanted

_LINKED: Final = (
    "{{with .Module}}{{if not .Main}}{{if .Replace}}{{.Replace.Path}} {{.Replace.Version}}"
    " {{.Replace.Sum}}{{else}}{{.Path}} {{.Version}} {{.Sum}}{{end}}{{end}}{{end}}"
)


class ModulesError(RuntimeError):
    """The modules of a component could not be listed; the text is Go's."""


def of_images(images: Iterable[Image]) -> Bom:
    """The images of docker-compose.yml and the Dockerfile: name, tag, digest, licence."""
    root = Component(
        name="chatscope",
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref="chatscope",
    )
    bom = _bom(root)
    for image in images:
        component = Component(
            name=image.name,
            version=image.tag,
            type=ComponentType.CONTAINER,
            bom_ref=image.reference,
            purl=PackageURL(
                "docker",
                image.name.rpartition("/")[0] or None,
                image.name.rpartition("/")[2],
                image.digest or image.tag,
                {"tag": image.tag} if image.digest else None,
            ),
            hashes=[
                HashType(alg=HashAlgorithm.SHA_256, content=image.digest.removeprefix("sha256:"))
            ]
            if image.digest
            else [],
            licenses=[DisjunctiveLicense(id=image.licence)],
        )
        bom.components.add(component)
        bom.register_dependency(root, [component])
    return bom


def of_binary(binary: Binary) -> Bom:
    """A Go program: the modules that packages are linked from. Raises ModulesError."""
    root = Component(
        name=binary.name,
        version=wanted(binary.name),
        type=ComponentType.APPLICATION,
        bom_ref=binary.name,
        licenses=[
            DisjunctiveLicense(id=image.licence) for image in IMAGES if image.binary == binary.name
        ],
    )
    bom = _bom(root)
    for path, version, checksum in _modules(binary):
        component = Component(
            name=path,
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=f"{path}@{version}",
            purl=PackageURL.from_string(f"pkg:golang/{path}@{version}"),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else [],
        )
        bom.components.add(component)
        bom.register_dependency(root, [component])
    return bom


def text(bom: Bom) -> str:
    """The document, with the time and a serial number of its own."""
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _bom(root: Component) -> Bom:
    bom = Bom()
    bom.metadata.component = root
    return bom


def _modules(binary: Binary) -> list[tuple[str, str, str]]:
    """Path, version and SHA-256 in hexadecimal digits of each, as in go.sum."""
    tags = [f"-tags={binary.tags}"] if binary.tags else []
    with sources(binary) as directory:
        command = ["go", "list", "-mod=readonly", "-deps", "-f", _LINKED, *tags, binary.package]
        done = run_go(command, directory)
    if done.returncode != 0:
        raise ModulesError(f"{binary.name}: {done.stderr.strip()[-300:]}")
    found = {tuple(line.split()) for line in done.stdout.splitlines() if line.strip()}
    return sorted((line[0], line[1], _sha256(line[2:])) for line in found)


def _sha256(checksum: tuple[str, ...]) -> str:
    return base64.b64decode(checksum[0].removeprefix("h1:")).hex() if checksum else ""
