"""What the developer of a service with the package can put anywhere.

A program of its own, that reads the texts by their places from standard input.
"""

# ruff: noqa: T201 - what a developer may do
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping

from loguru import logger
from opentelemetry import metrics, trace
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

import chatscope

# With the shape of a token.
SECRETS = (
    *("log message", "log argument", "log extra", "log extra key", "log list", "log map"),
    *("log bytes", "debug line", "warning", "exception message", "value in a ValueError"),
    *("span name", "span attribute", "span list", "span map", "span event", "event attribute"),
    *("link attribute", "link state", "span status", "span of a failing block"),
    *("metric label", "metric description", "resource attribute", "exception in a route"),
    *("name of an agent", "name of a model", "ID of a response", "recorded user id"),
    *("attribute of a person",),
)
# Without one: given to `configure`, hidden by the name beside them, or not recorded at all.
HIDDEN = (
    *("configured value", "configured pattern"),
    *("extra authorization", "nested password", "list of cookies", "value of a variable"),
    *("exception that is the cause", "exception that is the context", "argument of a function"),
    *("local variable", "prompt of a call", "instructions of a call", "response of a call"),
    *("stop sequence of a call", "argument of a tool", "result of a tool"),
)
# With the shape of a token, in texts that are recorded.
CAPTURED = (
    *("captured prompt", "captured response", "captured instructions"),
    *("captured argument", "captured result"),
)
OTHER_SHAPES = ("jwt", "private key", "e-mail", "card", "phone", "URL", "card as a number")


def main(texts: Mapping[str, str]) -> None:
    """Do all of it."""
    os.environ["OTEL_RESOURCE_ATTRIBUTES"] = f"note={texts['resource attribute']}"
    os.environ["SHOP_API_KEY"] = texts["value of a variable"]
    telemetry = chatscope.configure(
        redact_values={texts["configured value"]},
        redact_patterns={"employee": texts["configured pattern"]},
    )
    app = chatscope.instrument(Starlette(routes=[Route("/fail", _failing(texts))]))
    client = TestClient(app, raise_server_exceptions=False)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    logger.remove()
    logger.add(lambda _: None, level="INFO")
    with telemetry.request():
        if telemetry.settings.capture_content:
            _capture(texts)
        else:
            for plant in (_log, _raise, _trace, _measure, _model):
                plant(texts)
            client.get("/fail")
    chatscope.shutdown()


def _log(texts: Mapping[str, str]) -> None:
    logger.info(f"message {texts['log message']}")
    logging.getLogger("shop").warning("argument %s", texts["log argument"])
    for place in ("jwt", "private key", "e-mail", "card", "phone", "URL", "configured pattern"):
        logger.info(f"{place}: {texts[place]} .")
    logger.bind(
        field=texts["log extra"],
        number=int(texts["card as a number"]),
        items=[texts["log list"]],
        fields={"a": {"b": texts["log map"]}},
        data=texts["log bytes"].encode(),
        authorization=texts["extra authorization"],
        login={"password": texts["nested password"]},
        cookie=[texts["list of cookies"]],
        **{texts["log extra key"]: 1},
    ).info("extras")
    logger.debug(texts["debug line"])
    logger.info(f"{texts['configured value']} and {texts['value of a variable']}")
    warnings.warn(texts["warning"], stacklevel=1)
    logging.captureWarnings(True)
    warnings.warn(f"again {texts['warning']}", stacklevel=1)


def _raise(texts: Mapping[str, str]) -> None:
    try:
        raise RuntimeError(texts["exception message"])
    except RuntimeError:
        logger.exception("failed")
    try:
        int(texts["value in a ValueError"])
    except ValueError:
        logging.getLogger("shop").exception("failed")
    try:
        _caused(texts["argument of a function"], texts)
    except RuntimeError:
        logger.exception("failed because of others")


def _caused(argument: str, texts: Mapping[str, str]) -> None:
    local = texts["local variable"]
    try:
        try:
            raise KeyError(texts["exception that is the context"])
        except KeyError:
            raise ValueError(texts["exception that is the cause"])  # noqa: B904
    except ValueError as error:
        raise RuntimeError("ours", len(argument), len(local)) from error


def _trace(texts: Mapping[str, str]) -> None:
    tracer = trace.get_tracer("shop")
    state = trace.TraceState([("vendor", texts["link state"])])
    context = SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    links = [Link(context, {"a": texts["link attribute"]})]
    with tracer.start_as_current_span(f"work {texts['span name']}", links=links) as span:
        span.set_attribute("a", texts["span attribute"])
        span.set_attribute("b", ["x", texts["span list"]])
        span.set_attribute("c", {"d": texts["span map"]})
        span.set_attribute("enduser.note", texts["attribute of a person"])
        span.add_event(texts["span event"], {"a": texts["event attribute"]})
        span.set_status(Status(StatusCode.ERROR, texts["span status"]))
    try:
        with tracer.start_as_current_span("block"):
            raise RuntimeError(texts["span of a failing block"])
    except RuntimeError:
        print("failed as it should")


def _measure(texts: Mapping[str, str]) -> None:
    meter = metrics.get_meter("shop")
    counter = meter.create_counter("planted", description=texts["metric description"])
    counter.add(1, {"label": texts["metric label"]})


def _model(texts: Mapping[str, str]) -> None:
    with chatscope.inference(
        model=texts["name of a model"],
        provider="openai",
        messages=[{"role": "user", "content": texts["prompt of a call"]}],
        system_instructions=texts["instructions of a call"],
        stop=[texts["stop sequence of a call"]],
        user_id=f"ann {texts['recorded user id']}",
    ) as call:
        call.response(text=texts["response of a call"], id=texts["ID of a response"])
    arguments = {"query": texts["argument of a tool"]}
    with (
        chatscope.invoke_agent(texts["name of an agent"]),
        chatscope.execute_tool("search", arguments=arguments) as tool,
    ):
        tool.result([texts["result of a tool"]])


def _capture(texts: Mapping[str, str]) -> None:
    """Do what is recorded where content is captured."""
    with chatscope.inference(
        model="gpt-4o",
        provider="openai",
        messages=[{"role": "user", "content": f"My key is {texts['captured prompt']}, ok?"}],
        system_instructions=f"Never say {texts['captured instructions']}",
    ) as call:
        call.response(text=f"Your key is {texts['captured response']}")
    with chatscope.execute_tool("search", arguments={"q": texts["captured argument"]}) as tool:
        tool.result([texts["captured result"]])


def _failing(texts: Mapping[str, str]) -> Callable[[Request], Response]:
    def fail(_: Request) -> Response:
        if texts:
            raise RuntimeError(texts["exception in a route"])
        return PlainTextResponse("never")

    return fail


if __name__ == "__main__":
    main(json.load(sys.stdin))
