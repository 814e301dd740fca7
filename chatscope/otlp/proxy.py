"""Whether a connection goes past the proxies that the environment names.

gRPC and httpx send connections to this machine to the proxy as well, and gRPC reads the exceptions
from `no_proxy` only where it is written in lower case.
"""

import ipaddress
from typing import Final
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

_RESOLVERS: Final = ("dns:", "ipv4:", "ipv6:")


def bypasses_proxy(endpoint: str) -> bool:
    """Whether the endpoint, a URL or an address as gRPC accepts it, is reached directly: it is on
    this machine, or an exception by `no_proxy` or `NO_PROXY`."""
    host, port = _address(endpoint)
    return is_loopback(host) or proxy_bypass(f"{host}:{port}" if port else host)


def is_loopback(host: str) -> bool:
    """Whether a host name or an address always is this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _address(endpoint: str) -> tuple[str, int | None]:
    for resolver in _RESOLVERS:
        endpoint = endpoint.removeprefix(resolver)
    authority = endpoint.partition("://")[2] or endpoint
    parts = urlsplit(f"//{authority.lstrip('/')}")
    return parts.hostname or "", parts.port
