"""The committed corpora: every input of every target, and the engine itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import corpus, targets
from fuzz.target import BrokenPromise, Target, quiet
from stack.facts import ROOT

_TARGETS = targets.load()
_MAX_BYTES = 200_000


@pytest.mark.parametrize("name", _TARGETS)
def test_target_holds_for_its_corpus(name: str) -> None:
    target = _TARGETS[name]
    with quiet():
        for data in (*target.seeds, *corpus.read(name)):
            target.check(data)


def test_corpora_belong_to_targets_and_are_small() -> None:
    files = list(corpus.DIRECTORY.iterdir())
    assert {path.stem for path in files} <= _TARGETS.keys()
    assert sum(path.stat().st_size for path in files) < _MAX_BYTES


def test_corpus_is_read_as_it_was_written(tmp_path: Path) -> None:
    inputs = [b"", b"\0\xff\n\r", b'"\\', b"\x80\x81"]
    corpus.write("name", [*inputs, b""], tmp_path)
    assert sorted(corpus.read("name", tmp_path)) == sorted(inputs)


def test_slow_input_breaks_a_promise() -> None:
    def spin(data: bytes) -> None:
        for _ in range(200_000):
            pass

    with pytest.raises(BrokenPromise, match="takes"):
        Target("slow", spin, max_seconds=1e-6).run(b"")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="atheris is installed on Linux only")
def test_engine_runs_a_target() -> None:
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "otlp_wire", "--inputs", "2000"],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "otlp_wire: 2000 inputs" in done.stdout
