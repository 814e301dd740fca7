"""Replacements of the official images, with the same names, around programs built here.

Only for a private engine without a reachable registry. Entry point, user and paths are those of the
official image, everything else is left out.
"""

import hashlib
import io
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from stack.images import BASE, IMAGES, Image
from stack.parts import binary_path
from tests.engine.daemon import EngineError
from tests.engine.debian import CERTIFICATES, root_file_system
from tests.store_server import PROGRAM

_BUSYBOX = Path("/bin/busybox")
_PATH = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
# As in the official image: all paths, unless overridden.
_GRAFANA_ENV = {
    "GF_PATHS_CONFIG": "/etc/grafana/grafana.ini",
    "GF_PATHS_DATA": "/var/lib/grafana",
    "GF_PATHS_HOME": "/usr/share/grafana",
    "GF_PATHS_LOGS": "/var/log/grafana",
    "GF_PATHS_PLUGINS": "/var/lib/grafana/plugins",
    "GF_PATHS_PROVISIONING": "/etc/grafana/provisioning",
}
_RUN_SH = """#!/bin/sh
[ -d "$GF_PATHS_PLUGINS" ] || mkdir "$GF_PATHS_PLUGINS"
exec /usr/share/grafana/bin/grafana server --homepath="$GF_PATHS_HOME" \\
    --config="$GF_PATHS_CONFIG" --packaging=docker "$@" \\
    cfg:default.log.mode=console cfg:default.paths.data="$GF_PATHS_DATA" \\
    cfg:default.paths.logs="$GF_PATHS_LOGS" cfg:default.paths.plugins="$GF_PATHS_PLUGINS" \\
    cfg:default.paths.provisioning="$GF_PATHS_PROVISIONING"
"""

# Label with the hash of an image's content, so that it is not built again.
_KEY = "chatscope.made-from"
_KEY_OF = f'{{{{index .Config.Labels "{_KEY}"}}}}'

Fill = Callable[[tarfile.TarFile], None]


def make(environment: dict[str, str], grafana_home: str) -> dict[str, str]:
    """Build missing images; return the components that could not be built, with the reasons.

    Raises EngineError if a required image is missing.
    """
    client = _Client(environment)
    lacking = {}
    for image in IMAGES:
        if image.binary:
            binary = binary_path(image.binary)
            client.make(image, str(binary), _program(image, binary))
        elif image.part == "init":
            client.make(image, _digest(_busybox()), _applets, "CMD=sh")
        elif image.part == "store":
            if PROGRAM is None:
                lacking[image.part] = "neither Valkey nor Redis is installed"
            else:
                program = Path(PROGRAM).resolve()
                client.make(image, _digest(program), _store(program))
        elif grafana_home:
            home = Path(grafana_home).expanduser()
            said = [f"ENV={name}={value}" for name, value in _GRAFANA_ENV.items()]
            client.make(image, _digest(home / "bin" / "grafana"), _grafana(home), *said)
        else:
            # An image of an earlier session would be present by chance.
            client.run("rmi", "--force", image.tagged)
            lacking[image.part] = f"GRAFANA_HOME names none to make {image.tagged} from"
    trusted = [f"ENV=PIP_CERT={CERTIFICATES}"] if CERTIFICATES.exists() else []
    debian = root_file_system()
    client.make(BASE, debian.name, debian, f"ENV={_PATH}", "CMD=python3", *trusted)
    return lacking


class _Client:
    """Builds images in one engine."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def run(self, *words: str) -> str:
        done = subprocess.run(
            ["docker", *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    def make(self, image: Image, origin: str, content: Path | Fill, *said: str) -> None:
        """Build an image, unless it was built from the same content before."""
        changes = [change.replace("=", " ", 1) for change in said]
        if image.entrypoint:
            changes.append(f'ENTRYPOINT ["{image.entrypoint}"]')
        changes.append(f"USER {image.user}")
        here = Path(__file__).read_text()
        key = hashlib.sha256("\0".join((*changes, origin, here)).encode()).hexdigest()
        there = self.run("image", "inspect", "--format", _KEY_OF, image.tagged)
        if there != key:
            self._import(image, content, [*changes, f"LABEL {_KEY}={key}"])

    def _import(self, image: Image, content: Path | Fill, changes: list[str]) -> None:
        options = [word for change in changes for word in ("--change", change)]
        source = str(content) if isinstance(content, Path) else "-"
        with subprocess.Popen(
            ["docker", "import", *options, source, image.tagged],
            env=self._environment,
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
            raise RuntimeError(f"{image.tagged} could not be made: {problem}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _program(image: Image, binary: Path) -> Fill:
    def fill(archive: tarfile.TarFile) -> None:
        _skeleton(archive, f"nobody:x:{image.user}:{image.user}::/:/bin/false")
        archive.add(binary, image.entrypoint)

    return fill


def _busybox() -> Path:
    if not _BUSYBOX.exists():
        raise EngineError("there is no /bin/busybox (on Debian: apt-get install busybox-static)")
    return _BUSYBOX.resolve()


def _applets(archive: tarfile.TarFile) -> None:
    _skeleton(archive, "root:x:0:0::/root:/bin/sh")
    archive.add(_busybox(), "/bin/busybox")
    listed = subprocess.run([_busybox(), "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            link = tarfile.TarInfo(f"/bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)


def _grafana(home: Path) -> Fill:
    def fill(archive: tarfile.TarFile) -> None:
        # Its program needs the C library.
        with tarfile.open(root_file_system()) as debian:
            for member in debian:
                archive.addfile(member, debian.extractfile(member) if member.isreg() else None)
        archive.add(home, "/usr/share/grafana")
        _file(archive, "/run.sh", _RUN_SH, 0o755)

    return fill


def _store(program: Path) -> Fill:
    """Return the server of this machine, under Valkey's name, with its libraries."""

    def fill(archive: tarfile.TarFile) -> None:
        _skeleton(archive, "root:x:0:0::/root:/bin/sh")
        archive.add(program, "/usr/local/bin/valkey-server")
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
        for library in re.findall(r"(/\S+) \(0x", listed.stdout):
            archive.add(Path(library).resolve(), library)

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
