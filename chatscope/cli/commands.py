"""The commands of the extra `cli`: their arguments and options, with Typer."""

import os
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from chatscope import __version__
from chatscope.cli import export, main
from chatscope.cli.addresses import GRAFANA, LOKI, PROMETHEUS, SERVICE, TEMPO, Addresses, Place
from chatscope.cli.backend import Backend, Headers
from chatscope.cli.errors import CommandError
from chatscope.cli.loki import MAX_LINES, Loki, selector
from chatscope.cli.options import (
    AsJson,
    GrafanaUrl,
    Header,
    Key,
    LokiUrl,
    PrometheusUrl,
    Service,
    ServiceUrl,
    Since,
    TempoUrl,
    Until,
    headers_of,
)
from chatscope.cli.prometheus import Prometheus
from chatscope.cli.screen import emit, line, open_console
from chatscope.cli.tempo import Tempo, as_trace_id
from chatscope.cli.times import DAY, SECOND

_HOUR: Final = 3_600 * SECOND
_USE: Final = "Use"
_LOOK: Final = "Look"
_CHECK: Final = "Check"

app = typer.Typer(
    help="Follow LLM responses through traces, logs, metrics and cost, in the terminal.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Level(StrEnum):
    """The lowest level that is shown; the names of `chatscope.cli.records.LEVELS`."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. Raise CommandError."""
    try:
        app(list(arguments), prog_name="chatscope")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def addresses() -> Addresses:
    """Return the addresses of this process's environment and directory."""
    return Addresses(os.environ, Path.cwd())


def _backend(place: Place, given: str | None, header: list[str] | None) -> tuple[str, Headers]:
    """Return a backend's URL, and the headers for it."""
    where = addresses()
    url = where.url(place, given)
    return url, where.headers(place, url, headers_of(header))


def _loki(url: str | None, header: list[str] | None) -> Loki:
    return Loki(*_backend(LOKI, url, header))


def _tempo(url: str | None, header: list[str] | None) -> Tempo:
    return Tempo(*_backend(TEMPO, url, header))


def _grafana(url: str | None) -> str | None:
    from chatscope.cli.grafana import reachable_url

    return reachable_url(addresses(), url)


def _period(since: int | None, until: int | None, default: int) -> tuple[int, int]:
    """Return the start and the end of a time, in ns; without an end it includes clocks ahead."""
    end = until or time.time_ns() + 60 * SECOND
    return since or time.time_ns() - default, end


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"chatscope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command(rich_help_panel=_CHECK)
def doctor(
    *,
    url: ServiceUrl = None,
    prometheus_url: PrometheusUrl = None,
    loki_url: LokiUrl = None,
    tempo_url: TempoUrl = None,
    grafana_url: GrafanaUrl = None,
    header: Header = None,
    key: Key = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How long a backend is waited for.")
    ] = 20.0,
    as_json: AsJson = False,
) -> None:
    """Check the delivery of telemetry: name each fault and its fix.

    Sends one span, one log record and one metric to the Collector (OTEL_EXPORTER_OTLP_*), and looks
    for each in its backend. The exit code is 1 if there is a fault.
    """
    from chatscope.cli import findings
    from chatscope.cli.doctor import Doctor

    given = {
        SERVICE: url, TEMPO: tempo_url, LOKI: loki_url, PROMETHEUS: prometheus_url,
        GRAFANA: grafana_url,
    }  # fmt: skip
    examination = Doctor(
        addresses(), os.environ, urls=given, headers=headers_of(header), key=key, patience=timeout
    )
    console = open_console()
    found = []
    for finding in examination.examine():
        found.append(finding)
        if not as_json:
            findings.show(console, finding)
    if as_json:
        emit(findings.as_object(found))
    else:
        findings.show_sum(console, found)
    raise typer.Exit(int(findings.faults(found) > 0))


@app.command(rich_help_panel=_LOOK)
def trace(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="ID of a trace (x-trace-id) or of a response.")
    ],
    *,
    tempo_url: TempoUrl = None,
    loki_url: LokiUrl = None,
    grafana_url: GrafanaUrl = None,
    header: Header = None,
    as_json: AsJson = False,
) -> None:
    """Show a trace as a tree, with durations, log records, tokens and cost."""
    from chatscope.cli import trace as traces

    found = traces.read(_tempo(tempo_url, header), _loki(loki_url, header), identifier)
    if as_json:
        emit(traces.as_object(found))
    else:
        traces.show(open_console(), found, _grafana(grafana_url))


@app.command(rich_help_panel=_LOOK)
def logs(
    *,
    service: Service = None,
    since: Since = None,
    until: Until = None,
    level: Annotated[Level | None, typer.Option(help="The lowest level that is shown.")] = None,
    search: Annotated[str | None, typer.Option(metavar="TEXT", help="Records with it.")] = None,
    trace: Annotated[str | None, typer.Option(metavar="ID", help="Records of a trace.")] = None,
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, max=MAX_LINES, help="The newest.")
    ] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Print new ones, too.")] = False,
    loki_url: LokiUrl = None,
    header: Header = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest log records, of the last hour by default."""
    from chatscope.cli import tail

    trace_id = as_trace_id(trace) if trace else None
    if trace and not trace_id:
        raise typer.BadParameter(f"must be a trace ID of 32 hex digits (got {trace!r})")
    query = tail.query(service or [], level=level, search=search, trace_id=trace_id)
    start, end = _period(since, until, _HOUR)
    loki, console = _loki(loki_url, header), open_console()
    newest = loki.newest(query, start, end, limit)
    tail.show(console, newest, as_json=as_json)
    if follow:
        tail.follow(console, loki, query, newest, as_json=as_json)
    elif not newest and not as_json:
        console.print("No log records in this time.")


@app.command(rich_help_panel=_LOOK)
def top(
    *,
    window: Annotated[
        str, typer.Option(metavar="DURATION", help="Rates over this time, such as 1m or 1h.")
    ] = "1m",
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.2, help="How often it is updated.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print it once; so do pipes.")] = False,
    prometheus_url: PrometheusUrl = None,
    header: Header = None,
    as_json: AsJson = False,
) -> None:
    """Show the models that respond now: requests, errors, p95, tokens and cost; Ctrl-C leaves."""
    from chatscope.cli import top as models

    console = open_console()
    prometheus = Prometheus(*_backend(PROMETHEUS, prometheus_url, header))
    models.check_window(window)
    if as_json:
        emit(models.as_object(models.read(prometheus, window), window))
    elif once or not console.is_terminal:
        console.print(models.show(models.read(prometheus, window), window))
    else:
        models.follow(console, prometheus, window, interval)


@app.command(rich_help_panel=_LOOK)
def errors(
    *,
    service: Service = None,
    since: Since = None,
    until: Until = None,
    loki_url: LokiUrl = None,
    header: Header = None,
    as_json: AsJson = False,
) -> None:
    """Show errors in groups, with their reasons, of the last hour by default."""
    from chatscope.cli import failures

    start, end = _period(since, until, _HOUR)
    found = failures.read(_loki(loki_url, header), selector(service or []), start, end)
    if as_json:
        emit([failures.as_object(each) for each in found])
    else:
        failures.show(open_console(), found)


@app.command(rich_help_panel=_LOOK)
def conversation(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="ID of a conversation, or of a trace without one.")
    ],
    *,
    since: Since = None,
    until: Until = None,
    loki_url: LokiUrl = None,
    tempo_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A Tempo, for texts that are captured on spans only."),
    ] = None,
    header: Header = None,
    as_json: AsJson = False,
) -> None:
    """Show what was said in a conversation, turn by turn, of the last 7 days by default."""
    from chatscope.cli import talk

    start, end = _period(since, until, 7 * DAY)
    tempo = _tempo(tempo_url, header) if tempo_url else None
    found = talk.read(_loki(loki_url, header), tempo, identifier, start, end)
    if as_json:
        emit(talk.as_object(found))
    else:
        talk.show(open_console(), found)


@app.command(
    export.NAME,
    help=export.HELP,
    rich_help_panel=_LOOK,
    add_help_option=False,
    # Its options are those of `chatscope export` without this extra.
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def _export(context: typer.Context) -> None:
    main.run_export(context.args)


@app.command(rich_help_panel=_USE)
def chat(
    text: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Ask this once.")
    ] = None,
    *,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Another model.")] = None,
    url: ServiceUrl = None,
    key: Key = None,
    grafana_url: GrafanaUrl = None,
    as_json: AsJson = False,
) -> None:
    """Chat with the service."""
    from chatscope.cli import chat as chats

    succeeded = chats.run(
        addresses().url(SERVICE, url),
        open_console(),
        " ".join(text or []) or None,
        key=key,
        model=model,
        grafana_url=None if as_json else _grafana(grafana_url),
        as_json=as_json,
    )
    raise typer.Exit(int(not succeeded))


@app.command(rich_help_panel=_USE)
def feedback(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="ID of the trace (x-trace-id) or of the response.")
    ],
    label: Annotated[str, typer.Argument(help="good, bad, or another word.")],
    *,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="The reason.")] = None,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="From 0 (bad) to 1 (good).")
    ] = None,
    url: ServiceUrl = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Rate a response."""
    trace_id = as_trace_id(identifier)
    rating = {
        "trace_id": trace_id,
        "response_id": None if trace_id else identifier,
        "label": label,
        "comment": comment,
        "score": score,
    }
    headers = {"authorization": f"Bearer {key}"} if key else {}
    backend = Backend(SERVICE.name, addresses().url(SERVICE, url), headers)
    body = {name: value for name, value in rating.items() if value is not None}
    found = backend.post("/v1/feedback", body)
    if not isinstance(found, dict):
        raise CommandError(f"{backend.url} is not the service: the response is no rating")
    if as_json:
        emit(found)
        return
    known = "" if found.get("known") else "; the service does not know this response any more"
    line(open_console(), f"Rated {identifier} as {found.get('label')}{known}.")
