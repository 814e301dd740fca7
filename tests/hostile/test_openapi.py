"""Requests made of the OpenAPI description: every response is one that it describes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.service import started

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)
_EXAMPLES = 15


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_response_is_one_that_the_description_has(tmp_path: Path) -> None:
    with started(tmp_path) as service:
        done = subprocess.run(
            [
                *(Path(sys.executable).with_name("st"), "run", f"{service.url}/openapi.json"),
                *("--checks", ",".join(_CHECKS), "--max-examples", str(_EXAMPLES)),
                *("--generation-deterministic", "--no-color", "--request-timeout", "30"),
                *("--suppress-health-check", "all"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr
    assert "Tested: 12" in done.stdout
