"""Kafka's libraries are fetched once, and checked."""

import hashlib
from pathlib import Path

import pytest

from stack.scaled import kafka

_JAR = "kafka-1.jar"
# In place of Maven: it writes one library.
_MAVEN = """\
#!/bin/sh
for argument; do
  case $argument in -DoutputDirectory=*) directory=${argument#*=} ;; esac
done
mkdir -p "$directory"
printf '%s' "$CONTENT" >"$directory/kafka-1.jar"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs and a cache of its own."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {"mvn": _MAVEN, "java": "#!/bin/sh\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    sums = tmp_path / "sums"
    sums.write_text(f"{hashlib.sha256(b'good').hexdigest()}  {_JAR}\n")
    monkeypatch.setattr(kafka, "_SUMS", sums)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")


def test_library_with_the_expected_sum_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTENT", "good")
    kafka.fetch()
    monkeypatch.setenv("CONTENT", "would be refused")
    kafka.fetch()
    assert (kafka.directory() / _JAR).read_text() == "good"


def test_changed_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTENT", "changed")
    with pytest.raises(kafka.KafkaError, match=_JAR):
        kafka.fetch()
    assert not kafka.directory().exists()


def test_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "programs" / "mvn").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    with pytest.raises(kafka.MissingProgramError, match="mvn"):
        kafka.fetch()
