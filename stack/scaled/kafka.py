"""Kafka's libraries from Maven's central repository, for the native scaled stack."""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from stack.build import BuildError
from stack.parts import cache_dir, cache_key

_POM: Final = Path(__file__).with_name("pom.xml")
# A line for each library, as sha256sum writes them.
_SUMS: Final = Path(__file__).with_name("kafka.sha256")


class KafkaError(BuildError):
    """Kafka could not be fetched, or is not what it should be."""


class MissingProgramError(KafkaError):
    """A program that is needed to fetch or run Kafka is not installed."""


def directory() -> Path:
    """Return the directory of Kafka's libraries in the cache, whether or not it exists."""
    return cache_dir() / f"kafka-{cache_key([_POM, _SUMS], '', [])}"


def fetch() -> None:
    """Fetch Kafka unless the cache has it. Raises KafkaError."""
    fetched = directory().is_dir()
    needed = ("java",) if fetched else ("java", "mvn")
    if missing := [name for name in needed if not shutil.which(name)]:
        raise MissingProgramError(f"Kafka needs Java 17 and Maven; not found: {', '.join(missing)}")
    if fetched:
        return
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache_dir()) as scratch:
        libraries = Path(scratch) / "libraries"
        done = subprocess.run(
            [
                *("mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"),
                *(f"-DoutputDirectory={libraries}", "-DincludeScope=runtime"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or not libraries.is_dir():
            raise KafkaError(f"Kafka could not be fetched:\n{(done.stdout + done.stderr)[-1000:]}")
        if wrong := _differing(libraries):
            raise KafkaError(f"Kafka is not what {_SUMS.name} expects: {', '.join(wrong)}")
        if not directory().is_dir():  # another process may have been faster
            libraries.rename(directory())


def _differing(libraries: Path) -> list[str]:
    """Return the names of libraries that are missing, additional or changed."""
    lines = (line.split() for line in _SUMS.read_text().splitlines())
    expected = {name: digest for digest, name in lines}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in libraries.iterdir()
    }
    return sorted(name for name, _ in expected.items() ^ found.items())
