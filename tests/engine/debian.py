"""A small Debian with Python, as base of the service's image: built once, kept in the cache.

It replaces the official Python image: `python`, `python3` and `pip` are on PATH in the same place,
and packages can be installed.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from stack.images import BASE
from stack.parts import cache_dir
from tests.engine.daemon import EngineError

# The certificates that this machine trusts; this variable also configures pip.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_SUITE = BASE.tag.rpartition("-")[2]
_LEFT_OUT = (
    *("dev/*", "proc/*", "sys/*", "tmp/*", "var/cache/*", "var/lib/apt/lists/*", "var/log/*"),
    *("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*"),
)


def root_file_system() -> Path:
    """Return the archive of all its files; takes about 70 s the first time. Raises EngineError."""
    archive = cache_dir() / f"{_SUITE}-{_key()}.tar"
    if not archive.exists():
        _check()
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=archive.parent) as directory:
            root = Path(directory) / "root"
            _make(root)
            unfinished = Path(directory) / "tar"
            _pack(root, unfinished)
            unfinished.rename(archive)
    return archive


def _key() -> str:
    certificates = CERTIFICATES.read_bytes() if CERTIFICATES.exists() else b""
    return hashlib.sha256(Path(__file__).read_bytes() + certificates).hexdigest()[:12]


def _check() -> None:
    if not shutil.which("debootstrap"):
        raise EngineError(
            "no debootstrap to make the base of the service's image"
            " (on Debian: apt-get install debootstrap)"
        )


def _make(root: Path) -> None:
    _run("debootstrap", "--variant=minbase", "--include=python3-venv", _SUITE, root, _mirror())
    # A virtual environment at this path has the layout of the official image: programs in bin,
    # packages in site-packages, and a pip that may install.
    _run("chroot", root, "python3", "-m", "venv", "/usr/local")
    if CERTIFICATES.exists():
        inside = root / CERTIFICATES.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CERTIFICATES, inside)


def _pack(root: Path, archive: Path) -> None:
    left_out = [f"--exclude=./{place}" for place in _LEFT_OUT]
    _run("tar", "--create", "--file", archive, "--directory", root, *left_out, ".")


def _mirror() -> str:
    """Return the mirror of this machine's own packages."""
    wanted = "$(ORIGIN) $(CODENAME) $(REPO_URI)"
    for line in _run("apt-get", "indextargets", "--format", wanted).splitlines():
        origin, _, rest = line.partition(" ")
        codename, _, address = rest.partition(" ")
        # bookworm-security and similar suites are not complete.
        if origin == "Debian" and "-" not in codename:
            return address
    raise EngineError("apt knows no Debian mirror here, from which a base could be made")


def _run(*words: str | Path) -> str:
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise EngineError(f"{words[0]} failed, and with it the base of the service's image: {last}")
    return done.stdout
