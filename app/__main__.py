"""`python -m app`: run the service until SIGTERM or SIGINT.

The exit code is 0 after an orderly stop, 2 for invalid settings, 1 for any other failure.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from app import collection

if TYPE_CHECKING:
    from app.settings import Settings

_INVALID_SETTINGS = 2


def main() -> int:
    """Run the service; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m app", description="The chat service.")
    parser.add_argument("--workers", help="number of worker processes; overrides WORKERS")
    workers = parser.parse_args().workers
    collection.pause()
    from app.settings import (  # noqa: PLC0415
        SettingsError,
        load_settings,
        normalize_environment,
    )

    try:
        settings = load_settings(overrides={} if workers is None else {"WORKERS": workers})
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"ERROR    {problem}\n")
        return _INVALID_SETTINGS
    normalize_environment()
    return _run(settings)


def _run(settings: "Settings") -> int:
    # The server takes a second to import: report invalid settings first.
    from app.startup import run_reported  # noqa: PLC0415

    return run_reported(lambda: _serve(settings))


def _serve(settings: "Settings") -> int:
    if settings.workers > 1:
        from app.workers import run_workers  # noqa: PLC0415

        return run_workers(settings)
    from app.serving import serve  # noqa: PLC0415

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
