"""Inputs without feedback: the same ones for the same seed, and what fails is kept."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz import blind
from fuzz.target import Target

_SEEDS = (b"one input", b"another")


def _run(
    check: Callable[[bytes], object],
    directory: Path,
    seed: int = 1,
    *,
    inputs: int | None = None,
    seconds: float | None = None,
    timeout: int = 60,
) -> tuple[int, float, Path | None]:
    target = Target("made up", check, _SEEDS, words=("word",))
    return blind.fuzz(
        target, inputs=inputs, seconds=seconds, seed=seed, state=directory, timeout=timeout
    )


def test_seed_decides_the_inputs(tmp_path: Path) -> None:
    found: dict[int, list[bytes]] = {1: [], 2: []}
    for seed in (1, 1, 2):
        done, _, fault = _run(found[seed].append, tmp_path, seed, inputs=1_200)
        assert (done, fault) == (1_200, None)
    assert found[1][:1_200] == found[1][1_200:]
    assert found[1][:1_200] != found[2]
    assert len(set(found[2])) > 600
    assert any(b"word" in data for data in found[2])


def test_input_that_fails_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def check(data: bytes) -> None:
        if b"another" not in data and b"one input" not in data:
            raise ValueError("broken")

    done, _, fault = _run(check, tmp_path, inputs=5_000)
    assert done < 5_000
    assert fault is not None
    with pytest.raises(ValueError, match="broken"):
        check(fault.read_bytes())
    assert "broken" in capsys.readouterr().err


def test_endless_input_is_kept(tmp_path: Path) -> None:
    def check(_: bytes) -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:  # noqa: S112 - as a parser may
                continue

    done, seconds, fault = _run(check, tmp_path, timeout=1)
    assert done == 0
    assert 0.5 < seconds < 30
    assert fault is not None


def test_run_ends_after_its_time(tmp_path: Path) -> None:
    done, seconds, fault = _run(len, tmp_path, seconds=0.2)
    assert (done > 0, seconds >= 0.2, fault) == (True, True, None)
