"""Run the demo; exit code 0 if the service responded, 1 if not, 2 for invalid settings."""

# ruff: noqa: E402
# From here on, sockets and locks cooperate with gevent; modules imported earlier would not.
from gevent import monkey

monkey.patch_all()

import io
import sys

from demo.environment import LoadSettingsError
from demo.settings import DemoSettings

_INVALID_SETTINGS = 2


def main() -> int:
    """Run the demo and return the exit code."""
    # Failures contain texts of the service, which the terminal may not be able to show.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        settings = DemoSettings.read()
    except LoadSettingsError as error:
        print(error, file=sys.stderr)
        return _INVALID_SETTINGS
    # Importing locust takes a second or two: report invalid settings first.
    from chatscope import SettingsError  # noqa: PLC0415
    from demo.run import UnavailableError, run  # noqa: PLC0415

    try:
        return 0 if run(settings) else 1
    except SettingsError as error:
        print(error, file=sys.stderr)
        return _INVALID_SETTINGS
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
