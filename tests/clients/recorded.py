"""Responses of real providers, from providers/*.yaml.

They were written by hand from public documentation, source code and reports. Events are merged
into the provider's `chunk`; `raw` is sent unchanged. `expect` is the client's view and the recorded
telemetry, with the prices of `PRICES`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.clients.endpoint import EVENTS, JSON, Response
from tests.clients.matrix import PROVIDERS

DIRECTORY: Final = Path(__file__).with_name("providers")
# US dollars per million tokens.
PRICES: Final = {"prompt": 1.0, "completion": 10.0, "cache_read": 0.1}


@dataclass(frozen=True)
class Case:
    """One response of a provider."""

    provider: str
    name: str
    provider_name: str  # gen_ai.provider.name
    base: str
    settings: str
    path: str
    refuses_stream_options: Response | None
    response: Response
    streamed: bool
    # Without a price of ours, the cost is the one that the provider reports.
    priced: bool
    expect: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model's name: it selects the response."""
        return f"{self.provider}-{self.name}".replace("_", "-")


def _response(found: Mapping[str, Any], chunk: Mapping[str, Any]) -> Response:
    headers = found.get("headers", {})
    if "events" in found:
        parts = [
            f"{event['raw']}\n\n"
            if "raw" in event
            else f"data: {json.dumps({**chunk, **event})}\n\n"
            for event in found["events"]
        ]
        end = ["data: [DONE]\n\n"] if found.get("done", True) else []
        return Response(200, EVENTS, (*parts, *end), headers)
    body = (found.get("before", ""), json.dumps(found["body"]))
    return Response(found.get("status", 200), JSON, tuple(part for part in body if part), headers)


def _cases() -> list[Case]:
    cases = []
    for stem in PROVIDERS:
        provider = yaml.safe_load((DIRECTORY / f"{stem}.yaml").read_text())
        refusal = provider.get("refuses_stream_options")
        for name, found in provider["cases"].items():
            cases.append(
                Case(
                    provider=stem,
                    name=name,
                    provider_name=provider["provider"],
                    base=provider["base"],
                    settings=provider.get("settings", ""),
                    path=provider["path"].format(case=name.replace("_", "-")),
                    refuses_stream_options=_response(refusal, {}) if refusal else None,
                    response=_response(found, provider["chunk"]),
                    streamed=name != "whole",
                    priced=found.get("priced", True),
                    expect=found["expect"],
                )
            )
    return cases


CASES: Final = {case.model: case for case in _cases()}


def respond(body: dict[str, Any]) -> Response:
    """Respond as the provider of the request's model does."""
    case = CASES[body["model"]]
    if case.refuses_stream_options and "stream_options" in body:
        return case.refuses_stream_options
    return case.response
