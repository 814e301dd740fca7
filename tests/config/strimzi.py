"""The types of the Strimzi operator, written by its own generator, which Maven fetches."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# As in docs/kubernetes.md.
VERSION: Final = "1.2.0"
_POM: Final = Path(__file__).with_name("strimzi.pom.xml")
_SHA256: Final = {
    "api": "566961ae5e5646a001ae91312beda5cba3a5d467e740e205e1b761754335fe4e",
    "crd-generator": "76bb2430e702a1e6a24c071d26c865d5e9572cbc630d176d3b912033ae23ed00",
}
_CLASSES: Final = {
    "Kafka": "kafka.Kafka",
    "KafkaNodePool": "nodepool.KafkaNodePool",
    "KafkaTopic": "topic.KafkaTopic",
    "KafkaUser": "user.KafkaUser",
}
# That the generator was compiled for.
_JAVA: Final = 21


class StrimziError(RuntimeError):
    """The definitions cannot be generated on this machine; the text says what is missing."""


def write_definitions(directory: Path) -> None:
    """Write the definition of each kind as KIND.yaml. Raises StrimziError."""
    java = next((each for each in _javas() if _version(each) >= _JAVA), None)
    if java is None or not shutil.which("mvn"):
        raise StrimziError(f"the types of Strimzi need Java {_JAVA} and Maven")
    libraries = directory / "libraries"
    _run(
        *("mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"),
        *(f"-DoutputDirectory={libraries}", "-DincludeScope=runtime"),
    )
    for name, expected in _SHA256.items():
        content = (libraries / f"{name}-{VERSION}.jar").read_bytes()
        assert hashlib.sha256(content).hexdigest() == expected
    _run(
        *(java, "-cp", f"{libraries}/*", "io.strimzi.crdgenerator.CrdGenerator", "--yaml"),
        *(
            f"io.strimzi.api.kafka.model.{name}={directory / kind}.yaml"
            for kind, name in _CLASSES.items()
        ),
    )


def _javas() -> Iterator[str]:
    """Yield each Java of this machine: that of the environment, and those of the distribution."""
    if home := os.environ.get("JAVA_HOME"):
        yield f"{home}/bin/java"
    if found := shutil.which("java"):
        yield found
    yield from sorted(map(str, Path("/usr/lib/jvm").glob("*/bin/java")))


def _version(java: str) -> int:
    """Return the major version, 0 if it does not run."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else 0


def _run(*command: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise StrimziError(f"{command[0]}: {(done.stdout + done.stderr)[-500:]}")
