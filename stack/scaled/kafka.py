"""Kafka's libraries from Maven's central repository, for the native scaled stack."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from stack.build import BuildError
from stack.parts import cache_dir, cache_key

VERSION: Final = "4.1.1"
POM: Final = Path(__file__).with_name("pom.xml")


class KafkaError(BuildError):
    """Kafka cannot be fetched; the text says what is missing."""


def directory() -> Path:
    """Return the directory of Kafka's libraries in the cache, whether or not it exists."""
    return cache_dir() / f"kafka-{cache_key([POM], VERSION, [])}"


def fetch() -> None:
    """Fetch Kafka unless the cache has it. Raises KafkaError."""
    if directory().is_dir():
        return
    if missing := [name for name in ("java", "mvn") if not shutil.which(name)]:
        raise KafkaError(f"Kafka needs Java 17 and Maven; not found: {', '.join(missing)}")
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=cache_dir()) as scratch:
        libraries = Path(scratch) / "libraries"
        done = subprocess.run(
            [
                *("mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"),
                *(f"-DoutputDirectory={libraries}", "-DincludeScope=runtime"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or not libraries.is_dir():
            raise KafkaError(f"Kafka could not be fetched:\n{(done.stdout + done.stderr)[-1000:]}")
        libraries.rename(directory())
