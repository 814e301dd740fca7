"""The shell for the tests of commands."""

from collections.abc import Iterator

import pytest

from tests import groups
from tests.builds import wait_for_binaries
from tests.stack.shell import Shell
from tests.stack.shell import shell as opened


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    wait_for_binaries()
    # No engine responds there.
    no_engine = {"DOCKER_HOST": "unix:///nowhere"}
    offset = groups.named("commands").offset
    with opened("native", offset, tmp_path_factory.mktemp("commands"), no_engine) as shell:
        yield shell
