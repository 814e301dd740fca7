"""One target in a process of its own: libFuzzer changes inputs and keeps those that reach new code.

`python -m fuzz.engine TARGET [libFuzzer's options]`; it ends the process.
"""

import shlex
import sys

import atheris

from fuzz.target import Target, quiet

# Whose branches are seen: ours, and those of libraries that parse for us.
_INSTRUMENTED = [
    *("app", "chatscope", "opentelemetry.baggage", "opentelemetry.trace.propagation"),
    *("uvicorn.protocols", "websockets.frames", "websockets.protocol", "websockets.server"),
]
with atheris.instrument_imports(include=_INSTRUMENTED, enable_loader_override=False):
    from fuzz import targets

    _TARGETS = targets.load()


def main(arguments: list[str]) -> None:
    """Fuzz until an input fails, or as long as the options say."""
    name, *options = arguments
    target: Target = _TARGETS[name]

    def run(data: bytes) -> None:
        target.run(data)

    # For a merge, libFuzzer runs this command in a shell, followed by options.
    command = f"{shlex.quote(sys.executable)} -m fuzz.engine {name}"
    atheris.Setup([command, *options], run)
    with quiet():
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
