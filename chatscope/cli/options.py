"""The options that several commands have."""

import argparse
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

import typer

from chatscope.cli.addresses import GRAFANA, LOKI, PROMETHEUS, SERVICE, TEMPO, Place
from chatscope.cli.backend import header
from chatscope.cli.times import point_in_time

_Value = TypeVar("_Value")
_SOURCE: Final = "Where"
_TIME: Final = "A time such as 2026-11-28T12:00:00Z, or a duration before now such as 7d."


def _url(place: Place, option: str) -> Any:
    # The variable is not read here: the stack that runs in this directory comes after it.
    text = f"URL of {place.name}. \\[env var: {place.variable}] \\[default: {place.default}]"
    return typer.Option(option, metavar="URL", help=text, rich_help_panel=_SOURCE)


def checked(check: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Return a parser of an option that reports what `check` accepts."""

    def parse(text: str) -> _Value:
        try:
            return check(text)
        except argparse.ArgumentTypeError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


def headers_of(texts: Sequence[str] | None) -> dict[str, str]:
    """Return the headers of an option."""
    return dict(map(checked(header), texts or ()))


ServiceUrl = Annotated[str | None, _url(SERVICE, "--url")]
LokiUrl = Annotated[str | None, _url(LOKI, "--loki-url")]
TempoUrl = Annotated[str | None, _url(TEMPO, "--tempo-url")]
PrometheusUrl = Annotated[str | None, _url(PROMETHEUS, "--prometheus-url")]
GrafanaUrl = Annotated[str | None, _url(GRAFANA, "--grafana-url")]
Header = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'",
        help="A header for the backends, such as Authorization; repeatable.",
        rich_help_panel=_SOURCE,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        envvar="CHATSCOPE_API_KEY",
        show_default=False,
        help="API key of the service, if it requires one.",
        rich_help_panel=_SOURCE,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Service = Annotated[
    list[str] | None,
    typer.Option("--service", metavar="NAME", help="Name of a service; repeatable; default: all."),
]
Since = Annotated[
    int | None, typer.Option(metavar="TIME", parser=checked(point_in_time), help=_TIME)
]
Until = Annotated[
    int | None, typer.Option(metavar="TIME", parser=checked(point_in_time), help="Default: now.")
]
