"""HTTP to a backend, with errors that name it."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import requests

from chatscope.cli.errors import CommandError
from chatscope.otlp.proxy import bypasses_proxy

_TIMEOUT_SECONDS: Final = 60.0
_MAX_REASON: Final = 300  # characters
_END_OF_TIME: Final = 2**63

Headers = Mapping[str, str]
Parameters = Mapping[str, str | int | float]


def header(text: str) -> tuple[str, str]:
    """Return the name and the value of a header. Raise ArgumentTypeError."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"must be 'NAME: VALUE' (got {text!r})")
    return name.strip(), value.strip()


@contextmanager
def known_form(name: str) -> Iterator[None]:
    """Read a response. Raise CommandError where it has another form than its component's."""
    try:
        yield
    except (
        ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise CommandError(
            f"{name} responded with JSON of an unknown form: {type(error).__name__}: {error}"
        ) from None


def text(value: object) -> str:
    """Return a text of a response. Raise TypeError for another value."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def nanoseconds(value: Any) -> int:
    """Return a point in time of a response, in ns since 1970. Raise TypeError, ValueError."""
    found = int(value)
    if not 0 <= found < _END_OF_TIME:
        raise ValueError(f"{found} is not a time in ns")
    return found


class Backend:
    """A component that responds with JSON, by its URL."""

    def __init__(self, name: str, url: str, headers: Headers | None = None) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self._session = requests.Session()
        # Nothing on this machine is reached through a proxy.
        self._session.trust_env = not bypasses_proxy(self.url)
        self._session.headers.update(headers or {})

    def get(
        self, path: str, parameters: Parameters | None = None, *, optional: bool = False
    ) -> Any:
        """Return the JSON at a path; None if it is `optional` and not found. Raise CommandError."""
        response = self.request("GET", path, params=parameters)
        if optional and response.status_code == HTTPStatus.NOT_FOUND:
            return None
        return self._json(response)

    def post(self, path: str, body: Any) -> Any:
        """Send JSON, and return the JSON of the response. Raise CommandError."""
        return self._json(self.request("POST", path, json=body))

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Return the response, whatever its status. Raise CommandError if there is none."""
        url = f"{self.url}{path}"
        try:
            return self._session.request(method, url, **{"timeout": _TIMEOUT_SECONDS, **options})
        except requests.RequestException as error:
            raise CommandError(f"{self.name} at {url} is unreachable: {_reason(error)}") from None

    def _json(self, response: requests.Response) -> Any:
        if not response.ok:
            reason = _message(response)[:_MAX_REASON]
            raise CommandError(f"{self.name} responded with {response.status_code}: {reason}")
        try:
            return response.json()
        except ValueError:
            raise CommandError(f"{self.url} is not {self.name}: the response is no JSON") from None


def _message(response: requests.Response) -> str:
    """Return the message of an error in OpenAI's format, otherwise the text."""
    try:
        found = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return response.text.strip()
    return str(found)


def _reason(error: requests.RequestException) -> str:
    """Return the cause without the layers around it."""
    cause: BaseException = error
    while inner := (cause.__cause__ or getattr(cause, "reason", None) or cause.__context__):
        if not isinstance(inner, BaseException):
            break
        cause = inner
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
