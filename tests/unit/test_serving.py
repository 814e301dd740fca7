"""The serving process."""

import resource

from app.serving import raise_file_limit


def test_as_many_files_are_open_as_may_be() -> None:
    """The soft limit of a shell would end connections without an answer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        raise_file_limit()
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised[0] > 256
    assert raised[1] == hard
