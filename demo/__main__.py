"""`python -m demo`: 0 when the service answered, 1 when it did not, 2 for wrong settings."""

# ruff: noqa: E402
# Sockets and locks wait for each other from here on; what is imported before would not.
from gevent import monkey

monkey.patch_all()

import io
import sys

from demo.environment import LoadSettingsError
from demo.settings import DemoSettings

_WRONG_SETTINGS = 2


def main() -> int:
    """Run; the process's exit code."""
    # Failures have the service's words in them, which the terminal may not be able to show.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        settings = DemoSettings.read()
    except LoadSettingsError as error:
        print(error, file=sys.stderr)
        return _WRONG_SETTINGS
    # The load tool takes a second or two to import: wrong settings are told before.
    from chatscope import SettingsError  # noqa: PLC0415
    from demo.run import CannotAskError, run  # noqa: PLC0415

    try:
        return 0 if run(settings) else 1
    except SettingsError as error:
        print(error, file=sys.stderr)
        return _WRONG_SETTINGS
    except CannotAskError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
