"""HTTP to the components on this machine: no proxy, no certificates."""

import ssl

import httpx2


def local_client(base_url: str = "", uds: str | None = None, timeout: float = 5.0) -> httpx2.Client:
    """Return a client for plain HTTP, or over the Unix socket `uds`; timeout in seconds."""
    # The default context reads the system's certificates, which takes longer than the request.
    transport = httpx2.HTTPTransport(uds=uds, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    return httpx2.Client(base_url=base_url, transport=transport, timeout=timeout, trust_env=False)
