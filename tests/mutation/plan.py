"""Modules to mutate, and the tests that are run for each."""

from tests.mutation.workspace import ROOT

# Tests besides the one that mirrors the module (tests/unit/chat/test_parsing.py, ...). They call
# the module in their own process; what only a child process calls counts as not tested.
_MORE = {
    "app/chat/client.py": ["chat/test_openai_compatible.py"],
    "app/chat/parameters.py": ["chat/test_request.py"],
    "app/chat/parsing.py": ["chat/test_request.py"],
    "app/chat/provider.py": ["chat/test_turn.py", "test_errors.py"],
    "app/http/body.py": ["http/test_completions.py", "http/test_bad_requests.py"],
    "app/http/failures.py": ["http/test_completions.py"],
    "app/http/handshake.py": ["http/test_handshakes.py"],
    "app/http/models.py": ["http/test_failures.py", "http/test_openai_client.py"],
    "app/http/origins.py": ["http/test_handshakes.py", "http/test_socket.py"],
    "app/http/outlets.py": ["http/test_completions.py", "http/test_socket.py"],
    "app/http/page.py": ["http/test_health.py"],
    "app/http/parser.py": ["http/test_upgrades.py"],
    "app/http/protocol.py": ["http/test_upgrades.py", "http/test_headers.py"],
    "app/http/wire.py": ["http/test_completions.py", "http/test_socket.py"],
    "app/otel_checks.py": ["test_otel_environment.py"],
    "app/telemetry/content.py": ["telemetry/test_genai.py"],
    "app/telemetry/instrument.py": ["telemetry/test_http.py", "telemetry/test_genai.py"],
    "app/telemetry/instruments.py": ["telemetry/test_names.py", "telemetry/test_genai.py"],
    "app/telemetry/model_request.py": ["telemetry/test_genai.py"],
    "app/telemetry/routes.py": ["telemetry/test_http.py"],
    "app/telemetry/runtime.py": ["telemetry/test_names.py"],
    "app/telemetry/stable_http.py": ["telemetry/test_http.py"],
    "app/telemetry/stdlib_logs.py": ["telemetry/test_logs.py"],
}
# Their functions are called while other modules are imported, so each mutant needs a new process.
_CALLED_BY_IMPORTS = frozenset({"app/otel_checks.py", "app/settings.py", "app/telemetry/names.py"})


def called_by_imports(module: str) -> bool:
    """Return whether a mutant takes effect only where it is there before any import."""
    return module in _CALLED_BY_IMPORTS


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
