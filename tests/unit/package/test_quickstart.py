"""docs/quickstart.md: its commands and its application, as a reader uses them."""

import re
import shlex
import sys
from typing import Final

import httpx2
import pytest

from stack.facts import ROOT
from tests.receiver import Receiver
from tests.unit.package.environment import Environment, free_port, stop, uv, wait_until_up
from tests.unit.process import process, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.xdist_group("package")]

_PAGE: Final = (ROOT / "docs" / "quickstart.md").read_text()
_START, _INSTALL, _RUN, _ASK = re.findall(r"^```sh\n(.*?)\n^```", _PAGE, re.MULTILINE | re.DOTALL)
[_APPLICATION] = re.findall(r"^```python\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
_PORT: Final = "8000"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment that the page's commands make, beside the checkout."""
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / "chatscope").symlink_to(ROOT)
    made, installed = _INSTALL.splitlines()
    assert made == "python3 -m venv .venv"
    uv("venv", "-q", "--python", sys.executable, folder / ".venv")
    python = folder / ".venv" / "bin" / "python"
    pip, verb, *packages = shlex.split(installed)
    assert (pip, verb) == (".venv/bin/pip", "install")
    reached = uv("pip", "install", "-q", "--dry-run", "--python", python, "hatchling", check=False)
    if reached.returncode:
        pytest.skip(f"no package index: {reached.stderr.strip().splitlines()[-1]}")
    named = [each.replace("./", f"{folder}/") for each in packages]
    uv("pip", "install", "-q", "--python", python, *named)
    (folder / "main.py").write_text(_APPLICATION)
    return Environment(folder, python)


def test_stack_is_started_as_in_the_page_that_is_run_in_containers() -> None:
    assert f"```sh\n{_START}\n```" in (ROOT / "docs" / "running.md").read_text()


def test_application_of_the_page_is_traced_with_its_model_call(environment: Environment) -> None:
    *variables, program, app, option, port = shlex.split(_RUN)
    assert (program, option, port) == (".venv/bin/uvicorn", "--port", _PORT)
    own = str(free_port())
    with Receiver() as receiver, process() as model:
        url = served(model)
        environ = dict(each.split("=", 1) for each in variables)
        assert environ["OPENAI_BASE_URL"] == "http://127.0.0.1:3000/v1"
        environ["OPENAI_BASE_URL"] = f"{url}/v1"
        with environment.running(receiver.endpoint, "uvicorn", app, option, own, **environ) as shop:
            wait_until_up(int(own))
            asked = shlex.split(_ASK)[-1].replace(f":{_PORT}/", f":{own}/")
            response = httpx2.get(asked, timeout=240)
            assert response.json().startswith("(simulated)")
            trace_id = response.headers["x-trace-id"]
            printed = stop(shop)
    spans = {span.name: span for span in receiver.spans if span.trace_id == trace_id}
    assert set(spans) == {"GET /ask", "chat simulated-1"}, printed
    request, call = spans["GET /ask"], spans["chat simulated-1"]
    assert call.span.parent_span_id == request.span.span_id
    assert {span.resource["service.name"] for span in spans.values()} == {"shop"}
    assert call.attributes["gen_ai.usage.output_tokens"] > 0
    assert sum(receiver.last("llm_response_time").values()) > 0
    assert sum(receiver.last("http.server.request.duration").values()) > 0
