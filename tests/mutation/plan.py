"""Modules to mutate, and the tests that are run for each."""

from tests.mutation.workspace import ROOT

# Tests besides the one that mirrors the module (tests/unit/chat/test_parsing.py, ...). They call
# the module in their own process; what only a child process calls counts as not tested.
_MORE = {
    "app/chat/client.py": ["chat/test_openai_compatible.py"],
    "app/chat/parameters.py": ["chat/test_request.py", "chat/test_openai_compatible.py"],
    "app/chat/parsing.py": ["chat/test_request.py"],
    "app/chat/provider.py": ["chat/test_turn.py", "chat/test_openai_compatible.py"],
}


def modules() -> list[str]:
    """Return the modules of the service that have tests, by path."""
    paths = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "app").rglob("*.py"))
    return [path for path in paths if tests_of(path)]


def tests_of(module: str) -> list[str]:
    """Return the paths of the test files of a module: the mirrored one first."""
    *packages, name = module.removeprefix("app/").split("/")
    mirrored = "/".join([*packages, f"test_{name}"])
    paths = [f"tests/unit/{path}" for path in (mirrored, *_MORE.get(module, []))]
    return [path for path in paths if (ROOT / path).exists()]
