"""GET /: the chat page, and its scripts and styles."""

import gzip
import hashlib
import html
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from app.settings import Settings
from app.wire.errors import HttpError

_FOLDER: Final = Path(__file__).with_name("static")
_INDEX: Final = "index.html"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing inline, no `eval`, nothing from elsewhere; markup is made of text by DOMPurify only.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
_HEADERS: Final = {
    "vary": "Accept-Encoding",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class _Asset:
    """One file as it is sent."""

    content: bytes
    compressed: bytes
    content_type: str

    @classmethod
    def of(cls, content: bytes, content_type: str) -> "_Asset":
        return cls(content, gzip.compress(content, mtime=0), content_type)

    def response(self, request: Request, headers: dict[str, str]) -> Response:
        body, encoding = self.content, {}
        if "gzip" in request.headers.get("accept-encoding", ""):
            body, encoding = self.compressed, {"content-encoding": "gzip"}
        sent = {**_HEADERS, **headers, **encoding}
        return Response(body, headers=sent, media_type=self.content_type)


class ChatPage:
    """The page of one service, which knows its name and where its Grafana is.

    Addresses of its files contain a digest of all of them, so that a browser keeps them until any
    of them changes, and never mixes two versions.
    """

    def __init__(self, settings: Settings) -> None:
        facts = {
            "grafana": settings.grafana_public_url,
            "service": settings.otel_service_name,
        }
        index = (_FOLDER / _INDEX).read_text(encoding="utf-8")
        index = index.replace("{{version}}", _version())
        index = index.replace("{{facts}}", html.escape(json.dumps(facts)))
        self._index = _Asset.of(index.encode(), _TYPES[".html"])

    async def show(self, request: Request) -> Response:
        """Return the page."""
        headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}
        return self._index.response(request, headers)

    async def asset(self, request: Request) -> Response:
        """Return a script or style. Raise HttpError, 404."""
        found = _assets().get(request.path_params["name"])
        if found is None:
            raise HttpError(404, "The chat page has no such file.", code="not_found")
        # During an update, another instance may have sent the page.
        current = request.path_params["version"] == _version()
        return found.response(request, {"cache-control": _FOR_EVER if current else "no-store"})


@cache
def _assets() -> dict[str, _Asset]:
    """Return the files beside the page, by name."""
    return {
        path.name: _Asset.of(path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(_FOLDER.rglob("*"))
        if path.suffix in _TYPES and path.name != _INDEX
    }


@cache
def _version() -> str:
    digest = hashlib.sha256()
    for name, asset in _assets().items():
        digest.update(name.encode() + b"\0" + asset.content)
    return digest.hexdigest()[:12]
