"""Modules to mutate, and the tests that are run for each."""

from tests.mutation.workspace import ROOT

# Tests besides the one that mirrors the module (tests/unit/chat/test_parsing.py, ...).
_MORE = {
    "app/chat/client.py": ["chat/test_openai_compatible.py"],
    "app/chat/parameters.py": ["chat/test_request.py"],
    "app/chat/parsing.py": ["chat/test_request.py"],
    "app/chat/provider.py": ["chat/test_turn.py", "test_errors.py"],
    "app/http/handshake.py": ["http/test_handshakes.py"],
    "app/http/models.py": ["http/test_health.py", "http/test_openai_client.py"],
    "app/http/origins.py": ["http/test_failures.py"],
    "app/http/outlets.py": ["http/test_completions.py"],
    "app/http/page.py": ["http/test_health.py"],
    "app/http/parser.py": ["http/test_upgrades.py"],
    "app/http/protocol.py": ["http/test_upgrades.py", "http/test_headers.py"],
    "app/otel_checks.py": ["test_otel_environment.py"],
    "app/telemetry/content.py": ["telemetry/test_genai.py"],
    "app/telemetry/instrument.py": ["telemetry/test_http.py", "telemetry/test_genai.py"],
    "app/telemetry/instruments.py": ["telemetry/test_names.py"],
    "app/telemetry/model_request.py": ["telemetry/test_genai.py"],
    "app/telemetry/runtime.py": ["telemetry/test_names.py"],
    "app/telemetry/stable_http.py": ["telemetry/test_http.py"],
    "app/telemetry/stdlib_logs.py": ["telemetry/test_logs.py"],
}
# Called while modules are imported or tests collected, which has to be repeated for each mutant.
_CALLED_BY_IMPORTS = frozenset(
    {
        "app/errors.py",
        "app/otel_checks.py",
        "app/settings.py",
        "app/telemetry/names.py",
        "app/telemetry/values.py",
    }
)
# Mainly tested with child processes, in which no mutant is active: startup, shutdown, export.
_IN_CHILD_PROCESSES = frozenset(
    {
        "app/__main__.py",
        "app/main.py",
        "app/server.py",
        "app/shutdown.py",
        "app/startup.py",
        "app/telemetry/replay.py",
        "app/telemetry/setup.py",
        "app/telemetry/spool.py",
    }
)


def called_by_imports(module: str) -> bool:
    """Return whether a mutant takes effect only where it is there before any import."""
    return module in _CALLED_BY_IMPORTS


def modules() -> list[str]:
    """Return the paths of the modules that have tests in the process that runs them."""
    paths = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "app").rglob("*.py"))
    return [path for path in paths if path not in _IN_CHILD_PROCESSES and tests_of(path)]


def tests_of(module: str) -> list[str]:
    """Return the paths of the test files of a module: the mirrored one first."""
    *packages, name = module.removeprefix("app/").split("/")
    mirrored = "/".join([*packages, f"test_{name}"])
    paths = [f"tests/unit/{path}" for path in (mirrored, *_MORE.get(module, []))]
    return [path for path in paths if (ROOT / path).exists()]
