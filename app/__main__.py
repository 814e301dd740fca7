"""`python -m app`: the service until SIGTERM or SIGINT; exit code 2 for settings that are wrong."""

# ruff: noqa: E402
# What the imports below log shall come out the same way as everything else.
from app.telemetry.logs import capture_early, print_early

capture_early()

import signal
import sys

import uvicorn
from loguru import logger
from starlette.applications import Starlette

from app.main import create_app
from app.settings import Settings, SettingsError, load_settings

_WRONG_SETTINGS = 2
# An answer on its way may come to its end; with the telemetry's own end this stays below the
# ten seconds after which `docker stop` kills.
_GRACE_SECONDS = 4
_KEEP_ALIVE_SECONDS = 30


def main() -> int:
    """Run; the process's exit code."""
    try:
        settings = load_settings()
    except SettingsError as error:
        for problem in error.problems:
            logger.error(problem)
        print_early()
        return _WRONG_SETTINGS
    try:
        app = create_app(settings, shutdown_with_app=False)
        server = uvicorn.Server(_config(app, settings))
    except Exception:
        logger.exception("the service cannot start")
        print_early()
        return 1
    try:
        _serve(server)
    finally:
        app.state.telemetry.shutdown()
    return 0


def _config(app: Starlette, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        server_header=False,
        ws_max_size=settings.max_body_bytes,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def _serve(server: uvicorn.Server) -> None:
    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal that ended it once more, for the handlers from before: with
    # Python's own the exit code would be that of a killed process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    server.run()


if __name__ == "__main__":
    sys.exit(main())
