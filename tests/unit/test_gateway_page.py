"""docs/gateway.md: its examples and commands, as they are."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import httpx2
import pytest

from app.keys.file import KeysFile
from app.models_file import ModelsFile
from tests.unit.process import ROOT, process, served

pytestmark = pytest.mark.slow

_PAGE: Final = (ROOT / "docs" / "gateway.md").read_text()
_FILES: Final = dict(re.findall(r"^```toml\n# (\S+)\n(.*?)^```$", _PAGE, re.M | re.DOTALL))
_COMMANDS: Final = re.findall(r"^```sh\n(.*?)\n```$", _PAGE, re.M | re.DOTALL)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the page's files and the key that one of them names."""
    for name, text in _FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "azure.key").write_text("azure-secret\n")
    return tmp_path


def test_page_has_the_files_that_are_tested_here() -> None:
    assert set(_FILES) == {"models.toml", "simulated.toml", "keys.toml"}
    assert len(_COMMANDS) == 2


def test_providers_of_the_example_are_accepted(directory: Path) -> None:
    file = ModelsFile.read(directory / "models.toml", {"OPENAI_API_KEY": "k"})
    assert file.names == ["gpt-5-mini", "gpt-5-mini-azure", "local"]


def test_service_starts_with_the_example_as_the_page_says(directory: Path) -> None:
    (name, value), command = _COMMANDS[0].split(maxsplit=1)[0].split("="), "python -m app"
    assert (name, _COMMANDS[0].removeprefix(f"{name}={value} ")) == ("MODELS_FILE", command)
    with process(MODELS_FILE=str(directory / value), OPENAI_API_KEY="k") as started:
        listed = httpx2.get(f"{served(started)}/v1/models", timeout=20).json()["data"]
    assert [model["id"] for model in listed] == [
        *("gpt-5-mini", "gpt-5-mini-azure", "local", "simulated-1", "fast", "default")
    ]


def test_error_of_the_example_is_the_one_that_is_printed(directory: Path) -> None:
    path = directory / "models.toml"
    path.write_text(path.read_text().replace("timeout = 60 ", "timeout = -1 "))
    with process(MODELS_FILE=str(path), OPENAI_API_KEY="k") as started:
        _, printed = started.communicate(timeout=240)
    assert printed.replace(f"{directory}/", "").strip() in _PAGE


def test_simulated_providers_of_the_example_answer(directory: Path) -> None:
    question = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    with process(MODELS_FILE=str(directory / "simulated.toml")) as started:
        url = served(started)
        for _ in range(10):
            answer = httpx2.post(f"{url}/v1/chat/completions", json=question, timeout=20)
            assert answer.status_code == 200, answer.text
            assert answer.json()["model"] == "unreliable-1"


def test_key_of_the_command_is_accepted_by_the_service(directory: Path) -> None:
    command = _COMMANDS[1].replace("python ", f"{sys.executable} ")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    created = subprocess.run(
        ["bash", "-euc", command],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    key = created.stderr.splitlines()[-1]
    names = [entry.name for entry in KeysFile.read(directory / "keys.toml").keys]
    assert names == ["search-service", "alice"]
    with process(KEYS_FILE=str(directory / "keys.toml")) as started:
        url = f"{served(started)}/v1/models"
        assert httpx2.get(url, timeout=20).status_code == 401
        headers = {"authorization": f"Bearer {key}"}
        assert httpx2.get(url, headers=headers, timeout=20).status_code == 200
