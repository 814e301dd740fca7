"""`python -m app`: the service until SIGTERM or SIGINT; exit code 2 for settings that are wrong."""

# ruff: noqa: E402
# What the imports below log shall come out the same way as everything else.
from app.telemetry.logs import capture_early, print_early

capture_early()

import argparse
import sys

from loguru import logger

from app.settings import SettingsError, load_settings

_WRONG_SETTINGS = 2


def main() -> int:
    """Run; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m app", description="The chat service.")
    parser.add_argument("--workers", help="processes that serve, in place of WORKERS")
    given = parser.parse_args().workers
    try:
        settings = load_settings(overrides={} if given is None else {"WORKERS": given})
    except SettingsError as error:
        for problem in error.problems:
            logger.error(problem)
        print_early()
        return _WRONG_SETTINGS
    # What serves takes a second to import: wrong settings are told before.
    if settings.workers > 1:
        from app.workers import run_workers  # noqa: PLC0415

        return run_workers(settings)
    from app.server import serve  # noqa: PLC0415

    return serve(settings)


if __name__ == "__main__":
    sys.exit(main())
