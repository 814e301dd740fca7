"""Images under the official names, around the programs that are built here.

For a private engine where no registry can be reached: never for somebody's own. The entrypoint,
the user and the places are the official image's, all else is left out.
"""

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from stack.images import BASE, IMAGES, Image
from stack.parts import binary_path
from tests.engine.daemon import EngineError
from tests.engine.debian import CERTIFICATES, root_file_system

_BUSYBOX = Path("/bin/busybox")
_PATH = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
# As in the official image: where all is, unless its user says otherwise.
_GRAFANA_ENV = {
    "GF_PATHS_CONFIG": "/etc/grafana/grafana.ini",
    "GF_PATHS_DATA": "/var/lib/grafana",
    "GF_PATHS_HOME": "/usr/share/grafana",
    "GF_PATHS_LOGS": "/var/log/grafana",
    "GF_PATHS_PLUGINS": "/var/lib/grafana/plugins",
    "GF_PATHS_PROVISIONING": "/etc/grafana/provisioning",
}
_RUN_SH = """#!/bin/sh
exec /usr/share/grafana/bin/grafana server --homepath="$GF_PATHS_HOME" \\
    --config="$GF_PATHS_CONFIG" --packaging=docker "$@" \\
    cfg:default.log.mode=console cfg:default.paths.data="$GF_PATHS_DATA" \\
    cfg:default.paths.logs="$GF_PATHS_LOGS" cfg:default.paths.plugins="$GF_PATHS_PLUGINS" \\
    cfg:default.paths.provisioning="$GF_PATHS_PROVISIONING"
"""

Fill = Callable[[tarfile.TarFile], None]


def make(environment: dict[str, str], grafana_home: str) -> dict[str, str]:
    """Makes all of them; what could not be made, by its part, with the reason.

    Raises EngineError where one is missing without which there is no stack.
    """
    lacking = {}
    for image in IMAGES:
        if image.binary:
            _import(environment, image, _program(image, binary_path(image.binary)))
        elif image.part == "init":
            _import(environment, image, _busybox(), "CMD=sh")
        elif grafana_home:
            said = [f"ENV={name}={value}" for name, value in _GRAFANA_ENV.items()]
            _import(environment, image, _grafana(Path(grafana_home)), *said, f"ENV={_PATH}")
        else:
            lacking[image.part] = f"GRAFANA_HOME names none to make {image.reference} from"
    trusted = [f"ENV=PIP_CERT={CERTIFICATES}"] if CERTIFICATES.exists() else []
    _import(environment, BASE, root_file_system(), f"ENV={_PATH}", "CMD=python3", *trusted)
    return lacking


def _import(environment: dict[str, str], image: Image, content: Path | Fill, *said: str) -> None:
    changes = [change.replace("=", " ", 1) for change in said]
    if image.entrypoint:
        changes.append(f'ENTRYPOINT ["{image.entrypoint}"]')
    changes.append(f"USER {image.user}")
    options = [word for change in changes for word in ("--change", change)]
    source = str(content) if isinstance(content, Path) else "-"
    command = ["docker", "import", *options, source, image.reference]
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stdin
        assert client.stderr
        if not isinstance(content, Path):
            with tarfile.open(fileobj=client.stdin, mode="w|") as archive:
                content(archive)
        client.stdin.close()
        problem = client.stderr.read().decode(errors="replace").strip()
    if client.returncode != 0:
        raise RuntimeError(f"{image.reference} could not be made: {problem}")


def _program(image: Image, binary: Path) -> Fill:
    def fill(archive: tarfile.TarFile) -> None:
        _skeleton(archive, f"nobody:x:{image.user}:{image.user}::/:/bin/false")
        archive.add(binary, image.entrypoint)

    return fill


def _busybox() -> Fill:
    if not _BUSYBOX.exists():
        raise EngineError("there is no /bin/busybox (on Debian: apt-get install busybox-static)")
    listed = subprocess.run([_BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    applets = [name for name in listed.stdout.split() if name != "busybox"]

    def fill(archive: tarfile.TarFile) -> None:
        _skeleton(archive, "root:x:0:0::/root:/bin/sh")
        archive.add(_BUSYBOX.resolve(), "/bin/busybox")
        for applet in applets:
            link = tarfile.TarInfo(f"/bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)

    return fill


def _grafana(home: Path) -> Fill:
    def fill(archive: tarfile.TarFile) -> None:
        # Its program wants the C library.
        with tarfile.open(root_file_system()) as debian:
            for member in debian:
                archive.addfile(member, debian.extractfile(member) if member.isreg() else None)
        archive.add(home, "/usr/share/grafana")
        _file(archive, "/run.sh", _RUN_SH, 0o755)

    return fill


def _skeleton(archive: tarfile.TarFile, user: str) -> None:
    tmp = tarfile.TarInfo("/tmp")  # noqa: S108
    tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
    archive.addfile(tmp)
    _file(archive, "/etc/passwd", f"{user}\n", 0o644)


def _file(archive: tarfile.TarFile, path: str, text: str, mode: int) -> None:
    data = text.encode()
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))
