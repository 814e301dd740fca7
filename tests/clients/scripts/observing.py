"""What all client programs share: their input, and the form of what they print.

Each prints one line of JSON for each feature: what its client returned, or the traceback.
"""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

REQUESTS: Final[Any] = json.loads(Path(__file__).parents[1].joinpath("requests.json").read_text())
MODELS: Final[Mapping[str, str]] = REQUESTS["models"]
QUESTION: Final[str] = REQUESTS["question"]
TOOLS: Final[list[dict[str, Any]]] = REQUESTS["tools"]
SCHEMA: Final[dict[str, Any]] = REQUESTS["schema"]
IMAGE: Final[str] = REQUESTS["image"]
TEXTS: Final[list[str]] = REQUESTS["texts"]
CHAT: Final = MODELS["chat"]

FUNCTIONS: Final = [{"type": "function", "function": tool} for tool in TOOLS]
JSON_SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {"name": "weather", "strict": True, "schema": SCHEMA},
}
IMAGE_MESSAGE: Final = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}},
    ],
}


def ask(question: str = QUESTION) -> list[Any]:
    """Return the messages of a request."""
    return [{"role": "user", "content": question}]


def arguments() -> tuple[str, str]:
    """Return the service's URL and an API key."""
    return sys.argv[1], sys.argv[2]


def failed(call: Callable[[], Any]) -> dict[str, Any]:
    """Return the exception of a call: its class, status, and `code` of the body."""
    try:
        seen = call()
    except Exception as error:
        body = getattr(error, "body", None)
        inner = body.get("error", body) if isinstance(body, dict) else {}
        code = getattr(error, "code", None) or inner.get("code")
        details = inner.get("details")
        return {
            "error": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": details.get("error_code") if isinstance(details, dict) else code,
            "message": str(error),
        }
    return {"error": None, "returned": repr(seen)}


def run(features: Mapping[str, Callable[[], Any]]) -> None:
    """Use each feature and print what was observed."""
    for name, feature in features.items():
        try:
            line = {"feature": name, "seen": feature()}
        except Exception:
            line = {"feature": name, "failure": traceback.format_exc()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
