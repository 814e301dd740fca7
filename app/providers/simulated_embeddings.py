"""Embeddings of the simulated model: texts with the same words have similar vectors."""

import base64
import hashlib
import json
import math
import struct
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from app.domain.embedding import Embedded, EmbeddingRequest
from app.domain.provider import ProviderError
from chatscope.genai import Usage

_DIMENSIONS: Final = 256
_MAX_DIMENSIONS: Final = 4096
_ENCODINGS: Final = ("float", "base64")
# Components that one word changes.
_COMPONENTS: Final = 8
# Inputs and words of one request, as OpenAI limits them, and components of its response.
_MOST_INPUTS: Final = 2_048
_MOST_WORDS: Final = 300_000
_MOST_COMPONENTS: Final = _MOST_INPUTS * _DIMENSIONS


def embedded(request: EmbeddingRequest) -> Embedded:
    """Return unit vectors of the requested length. Raise ProviderError.

    Takes up to three seconds for the longest request: call it in a thread.
    """
    dimensions = request.body.get("dimensions")
    dimensions = _DIMENSIONS if dimensions is None else dimensions
    if type(dimensions) is not int or not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise _refusal("dimensions", f"an integer from 1 to {_MAX_DIMENSIONS}")
    encoding = request.body.get("encoding_format") or "float"
    if encoding not in _ENCODINGS:
        raise _refusal("encoding_format", "float or base64")
    inputs = [_tokens(each) for each in _inputs(request.body["input"], dimensions)]
    count = sum(len(tokens) for tokens in inputs)
    if count > _MOST_WORDS:
        raise _refusal("input", f"at most {_MOST_WORDS:,} words in all")
    # One by one: the interpreter lock is held while a value is rendered.
    data = ", ".join(
        json.dumps(
            {
                "object": "embedding",
                "index": index,
                "embedding": _encoded(tokens, dimensions, encoding),
            }
        )
        for index, tokens in enumerate(inputs)
    )
    about = {
        "object": "list",
        "model": request.model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }
    raw = f'{json.dumps(about)[:-1]}, "data": [{data}]}}'.encode()
    return Embedded(raw=raw, usage=Usage(count), response_model=request.model)


def _refusal(param: str, accepted: str) -> ProviderError:
    return ProviderError(
        "invalid_request",
        "The simulated model refused the request:",
        detail=f"{param} must be {accepted}.",
        param=param,
    )


def _inputs(given: Any, dimensions: int) -> Sequence[Any]:
    """Return the inputs: texts or lists of tokens, one or several."""
    if isinstance(given, str) or all(isinstance(each, int) for each in given):
        return [given]
    if not all(isinstance(each, str | list) for each in given):
        raise _refusal("input", "a text, a list of texts or a list of tokens")
    most = min(_MOST_INPUTS, _MOST_COMPONENTS // dimensions)
    if len(given) > most:
        raise _refusal("input", f"at most {most:,} inputs of {dimensions:,} dimensions")
    return list(given)


def _tokens(given: str | list[Any]) -> list[str]:
    return given.lower().split() if isinstance(given, str) else [str(each) for each in given]


def _encoded(tokens: Sequence[str], dimensions: int, encoding: str) -> list[float] | str:
    vector = [0.0] * dimensions
    for token in tokens or [""]:
        seed = int.from_bytes(hashlib.sha256(token.encode()).digest()[:8])
        random = Random(seed)  # noqa: S311
        for _ in range(_COMPONENTS):
            vector[random.randrange(dimensions)] += random.uniform(-1, 1)
    length = math.hypot(*vector) or 1.0
    unit = [component / length for component in vector]
    if encoding == "float":
        return unit
    return base64.b64encode(struct.pack(f"<{dimensions}f", *unit)).decode()
