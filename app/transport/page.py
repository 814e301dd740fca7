"""GET /: the chat page, a single file without external resources."""

import base64
import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse

_HTML = Path(__file__).with_name("page.html").read_text(encoding="utf-8")


async def page(request: Request) -> HTMLResponse:
    """Return the page; its policy allows only its own script and style."""
    return HTMLResponse(_HTML, headers=_HEADERS)


def _hashes(tag: str) -> str:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", _HTML, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in found]
    return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)


_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
}
