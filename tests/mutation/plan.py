"""Modules to mutate, and the tests that are run for each."""

from tests.mutation.workspace import PACKAGES, ROOT

# Tests besides the one that mirrors the module (tests/unit/chat/test_parsing.py, ...).
_READER = ["providers/test_response_reader.py", "properties/test_response_reader.py"]
_FEATURES = ["transport/test_openai_features.py"]
_MORE = {
    "app/providers/chunk_reader.py": _READER,
    "app/providers/message_format.py": _READER,
    "app/providers/response_reader.py": _READER,
    "app/providers/sse.py": _READER,
    "app/providers/usage_format.py": _READER,
    "app/providers/whole_reader.py": _READER,
    "app/providers/client_failures.py": ["providers/test_openai_compatible.py"],
    "app/providers/failures.py": [*_READER, "providers/test_openai_compatible.py"],
    "app/json_text.py": [*_READER, "providers/test_openai_compatible.py"],
    "app/providers/response_headers.py": ["providers/test_openai_compatible.py"],
    "app/providers/schema_values.py": _FEATURES,
    "app/providers/simulated_embeddings.py": _FEATURES,
    "app/providers/simulated_failures.py": ["providers/test_simulated.py"],
    "app/providers/simulated_output.py": _FEATURES,
    "app/domain/embedding.py": ["transport/test_embeddings.py", "wire/test_request.py"],
    "app/domain/embedding_call.py": ["transport/test_embeddings.py"],
    "app/providers/http_client.py": ["providers/test_openai_compatible.py"],
    "app/wire/formats/blocks.py": ["wire/formats/test_clients.py"],
    "app/wire/formats/conversation.py": [
        "wire/formats/test_responses.py",
        "wire/formats/test_messages.py",
    ],
    "app/wire/formats/messages_object.py": ["wire/formats/test_messages.py"],
    "app/wire/formats/messages_request.py": ["wire/formats/test_messages.py"],
    "app/wire/formats/messages_stream.py": ["wire/formats/test_clients.py"],
    "app/wire/formats/reading.py": [
        "wire/formats/test_responses.py",
        "wire/formats/test_messages.py",
        "wire/formats/test_odd_input.py",
    ],
    "app/wire/formats/responses_object.py": ["wire/formats/test_responses.py"],
    "app/wire/formats/responses_request.py": ["wire/formats/test_responses.py"],
    "app/wire/formats/responses_stream.py": [
        "wire/formats/test_clients.py",
        "wire/formats/test_responses.py",
    ],
    "app/wire/parsing.py": ["wire/test_request.py"],
    "app/domain/provider.py": ["domain/test_turn.py", "domain/test_errors.py"],
    "app/domain/request.py": ["wire/test_request.py", "domain/test_turn.py"],
    "app/transport/handshake.py": ["transport/test_handshakes.py"],
    "app/transport/models.py": ["transport/test_health.py"],
    "app/transport/origins.py": ["transport/test_errors.py"],
    "app/transport/outputs.py": ["transport/test_completions.py"],
    "app/transport/response.py": ["transport/test_outputs.py", "transport/test_errors.py"],
    "app/transport/steps.py": ["transport/test_errors.py"],
    "app/transport/parser.py": ["transport/test_upgrades.py"],
    "app/transport/protocol.py": ["transport/test_upgrades.py", "transport/test_headers.py"],
    "chatscope/genai/answer.py": ["telemetry/test_genai.py", "telemetry/test_recorders.py"],
    "chatscope/genai/content.py": ["telemetry/test_genai.py"],
    "chatscope/genai/decorating.py": ["telemetry/test_recorders.py"],
    "chatscope/genai/deferred.py": ["telemetry/test_recorders.py"],
    "chatscope/genai/handles.py": ["telemetry/test_recorders.py"],
    "chatscope/genai/nesting.py": ["telemetry/test_recorders.py", "telemetry/test_clients.py"],
    "chatscope/genai/operation.py": ["telemetry/test_genai.py", "telemetry/test_recorders.py"],
    "chatscope/genai/recorder.py": ["telemetry/test_recorders.py"],
    "chatscope/genai/recording.py": ["telemetry/test_recorders.py"],
    "chatscope/genai/responses.py": ["telemetry/test_recorders.py"],
    "chatscope/genai/steps.py": ["telemetry/test_recorders.py"],
    "chatscope/genai/streams.py": ["telemetry/test_recorders.py"],
    "chatscope/applications.py": ["package/test_instrument.py"],
    "chatscope/middleware.py": ["package/test_instrument.py", "telemetry/test_http.py"],
    "chatscope/direct_logs.py": ["telemetry/test_direct_logs.py"],
    "chatscope/telemetry.py": ["package/test_instrument.py", "telemetry/test_genai.py"],
    "chatscope/logs/bridge.py": ["telemetry/test_logs.py", "package/test_guest_logs.py"],
    "chatscope/logs/guest.py": ["package/test_guest_logs.py"],
    "chatscope/logs/own.py": ["package/test_guest_logs.py", "telemetry/test_websocket.py"],
    "chatscope/logs/stdlib_records.py": ["telemetry/test_logs.py", "package/test_guest_logs.py"],
    "chatscope/asgi.py": ["asgi/test_asgi.py", "asgi/test_conformance.py"],
    "chatscope/http_attributes.py": ["asgi/test_asgi.py", "asgi/test_conformance.py"],
    "chatscope/http_metrics.py": ["asgi/test_asgi.py"],
    "chatscope/instruments.py": ["telemetry/test_names.py"],
    "chatscope/genai/request.py": ["telemetry/test_genai.py"],
    "chatscope/routes.py": ["telemetry/test_routes.py", "asgi/test_frameworks.py"],
    "chatscope/runtime.py": ["telemetry/test_names.py"],
    "chatscope/stable_http.py": ["telemetry/test_http.py"],
    "chatscope/stock_asgi.py": ["telemetry/test_http.py"],
    "chatscope/logs/standard.py": ["telemetry/test_logs.py"],
    "chatscope/otlp/anyvalue.py": ["otlp/test_encoding.py"],
    "chatscope/otlp/batch.py": ["otlp/test_encoding.py"],
    "chatscope/otlp/log_records.py": ["otlp/test_encoding.py"],
    "chatscope/otlp/metrics.py": ["otlp/test_encoding.py"],
    "chatscope/otlp/spans.py": ["otlp/test_encoding.py"],
    "chatscope/otlp/wire.py": ["otlp/test_encoding.py"],
}
# Some of their tests have other names when they are collected twice in one process.
_COLLECTED_ANEW = frozenset({"chatscope/otlp/values.py"})
# Their functions are called while modules are imported, before a mutant is active.
_CALLED_BY_IMPORTS = frozenset(
    {"app/transport/page.py", "app/settings.py", "chatscope/names.py", "chatscope/sdk_variables.py"}
)
# Mainly tested with child processes, in which no mutant is active: startup, shutdown, export.
_IN_CHILD_PROCESSES = frozenset(
    {
        "app/__main__.py",
        "app/main.py",
        "app/serving.py",
        "app/transport/server.py",
        "app/transport/deadline.py",
        "app/startup.py",
        "chatscope/providers.py",
    }
)


def collected_anew(module: str) -> bool:
    """Return whether the tests have to be collected for each mutant, which takes seconds."""
    return module in _COLLECTED_ANEW


def modules() -> list[str]:
    """Return the paths of the modules that have tests in the process that runs them."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    paths = sorted(path.relative_to(ROOT).as_posix() for path in found)
    excluded = _IN_CHILD_PROCESSES | _CALLED_BY_IMPORTS
    return [path for path in paths if path not in excluded and tests_of(path)]


def tests_of(module: str) -> list[str]:
    """Return the paths of the test files of a module: the mirrored one first."""
    _, *folders, name = module.split("/")
    mirrored = "/".join([*folders, f"test_{name}"])
    paths = [f"tests/unit/{path}" for path in (mirrored, *_MORE.get(module, []))]
    return [path for path in paths if (ROOT / path).exists()]
