"""Whether a service on the network responds."""

import urllib.error
import urllib.request
from typing import Final

_TIMEOUT_S: Final = 10.0


def reachable(url: str) -> bool:
    """Whether the host of an HTTP URL responds, with whatever status."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        # It holds the connection.
        error.close()
        return True
    except OSError:
        return False
