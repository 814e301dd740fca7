"""Contains unusual failures of a test, so that the run continues."""

import traceback
from collections.abc import Generator
from typing import Any, Literal, cast

import pytest

# Number of innermost frames of a traceback that pytest cannot render.
_FRAMES = 50


class Worker:
    """Hooks of each process that runs tests for another one."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        # The controller also receives the user's Ctrl-C; an interrupt raised by a test is its
        # failure.
        try:
            return (yield)
        except KeyboardInterrupt as error:
            raise RuntimeError("the test was interrupted (SIGINT)") from error

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self) -> Generator[None, object, object]:
        return encodable((yield))


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Worker())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fall back to Python's own traceback where pytest cannot render one.

    After a deep recursion CPython 3.11 may raise `SystemError: AST constructor recursion depth
    mismatch` when pytest parses the source, which would end the run as an internal error.
    """
    try:
        return (yield)
    except Exception as error:
        assert call.excinfo is not None
        text = "".join(traceback.format_exception(call.excinfo.value, limit=-_FRAMES))
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords=dict.fromkeys(item.keywords, 1),
            outcome="failed",
            longrepr=f"{text}\n(pytest could not render this traceback: {error!r})",
            when=cast(Literal["setup", "call", "teardown"], call.when),
            duration=call.duration,
            start=call.start,
            stop=call.stop,
        )


def encodable(value: Any) -> Any:
    """Return the value with texts that UTF-8 can encode: lone surrogates are escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(encodable, value))
    return value
