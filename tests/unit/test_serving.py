"""The serving process."""

import resource
from pathlib import Path

import pytest

from app.serving import raise_file_limit
from tests.unit.process import patched, process


def test_as_many_files_are_open_as_may_be() -> None:
    """The soft limit of a shell would end connections without an answer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        limit = raise_file_limit()
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised[0] > 256
    assert raised == (limit, hard)


@pytest.mark.slow
@pytest.mark.parametrize(("files", "warns"), [(1199, True), (1200, False)])
def test_too_few_open_files_are_reported_at_startup(
    files: int, warns: bool, tmp_path: Path
) -> None:
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"
    environ = {"MAX_CONNECTIONS": "1000", "MAX_ANSWERS": "50", **patched(tmp_path, limited)}
    with process(**environ) as service:
        assert service.stderr is not None
        lines = []
        for line in service.stderr:
            lines.append(line)
            if "Uvicorn running on " in line:
                break
    text = "only 1199 files can be open at once: MAX_CONNECTIONS=1000 and MAX_ANSWERS=50 need 1200"
    assert any("WARNING" in line and text in line for line in lines) == warns
