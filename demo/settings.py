"""The demo's settings: the environment, read once; every limit has a value."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from demo.environment import LoadSettings, setting


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _web_address(url: str) -> str:
    parts = urlsplit(url)
    bare = not (parts.path.strip("/") or parts.query or parts.fragment)
    # `port` raises its own ValueError for an invalid port.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or not bare:
        raise ValueError("not the address of a service")
    return url.rstrip("/")


class DemoSettings(LoadSettings):
    """The service under load, the number of users, and the end of the load."""

    url: Annotated[str, AfterValidator(_web_address)] = setting(
        "http://127.0.0.1:3000", "CHATSCOPE_URL", "Service that gets the load.",
        "http or https, a host and a port, such as http://127.0.0.1:3000",
    )  # fmt: skip
    # One of each kind (demo/users.py).
    users: int = setting(
        11, "DEMO_USERS",
        "Number of concurrent users; with fewer than 11 some kinds are missing.",
        "a whole number from 1 to 100", ge=1, le=100,
    )  # fmt: skip
    spawn_rate: float = setting(
        1.0, "DEMO_SPAWN_RATE", "Users that start per second, until all are running.",
        "a number above 0, up to 100", gt=0, le=100,
    )  # fmt: skip
    pace: float = setting(
        1.0, "DEMO_PACE", "Factor by which their pauses are shorter than those of real users.",
        "a number above 0, up to 100", gt=0, le=100,
    )  # fmt: skip
    seconds: float = setting(
        900.0, "DEMO_SECONDS", "Ends after this time.",
        "a number of seconds above 0, up to 86400", gt=0, le=86_400,
    )  # fmt: skip
    questions: int = setting(
        3000, "DEMO_QUESTIONS", "Ends after this many questions.",
        "a whole number from 1 to 1000000", ge=1, le=1_000_000,
    )  # fmt: skip
    models: Annotated[tuple[str, ...], BeforeValidator(_split)] = setting(
        (), "DEMO_MODELS", "Requested models; unset: the simulated ones, which cost nothing.",
        "a comma list of names from /v1/models",
    )  # fmt: skip
