"""Writes docs/performance.md and its charts from the last results of the benchmarks.

    python -m bench.performance

The results are those below `.chatscope/bench` (bench/results.py). What has none is shown as not
measured. The explanations are in bench/performance.template.md.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from bench import backends, cpu, gateways, otlp, overhead, results, stored
from bench.competitors.environments import version
from bench.goals import GOALS, Goal
from bench.plots import Bar, chart, number_text
from bench.results import Result, Row
from stack.facts import ROOT

PAGE: Final = ROOT / "docs" / "performance.md"
IMAGES: Final = PAGE.parent / "images" / "performance"
NOT_MEASURED: Final = "not measured"
_TEMPLATE: Final = Path(__file__).with_name("performance.template.md")
_LONGEST_REASON: Final = 200


@dataclass(frozen=True)
class Section:
    """A table of variants and figures, and a chart of one figure.

    Variants and figures are named as in the result, with their names on the page as values.
    """

    benchmark: str
    variants: Mapping[str, str]
    figures: Mapping[str, str]
    charted: str | None = None
    ours: Sequence[str] = (gateways.CHATSCOPE.name,)


def _pinned(package: str, environment: str) -> str:
    return f"{package} {version(environment, package)}"


_LITELLM: Final = f"LiteLLM {version('litellm', 'litellm')}"
_OPENLLMETRY: Final = version("openllmetry", "opentelemetry-instrumentation-openai")
_CLIENT_KINDS: Final = (cpu.RELAYED_JSON, cpu.RELAYED_STREAM, cpu.CHUNK)


def _of_backends(signal: str) -> Section:
    names = (*backends.INVOLVED[signal], backends.ALL)
    chosen = [load for load in backends.loads() if load.signal == signal]
    fastest = chosen[-1]
    return Section(
        "backends",
        {
            f"{configuration}, {name}": f"{configuration}, {name}"
            for configuration in (backends.OURS, backends.LGTM)
            for name in names
        },
        {
            **{load.name: f"{load.speed}, ms" for load in chosen},
            fastest.accepted_name: "full speed, a second",
        },
    )


# By their placeholders in the template.
SECTIONS: Final[Mapping[str, Section]] = {
    "gateways": Section(
        "cpu",
        {
            gateways.CHATSCOPE.name: "chatscope",
            gateways.CHATSCOPE_OFF.name: "chatscope, telemetry off",
            gateways.CLIENT.name: "Starlette, `openai` client",
            gateways.LITELLM.name: _LITELLM,
            gateways.LITELLM_OTEL.name: f"{_LITELLM}, OpenTelemetry",
        },
        {kind: f"{kind}, {unit}" for kind, unit in cpu.UNITS.items()},
        cpu.CHUNK,
        (gateways.CHATSCOPE.name, gateways.CHATSCOPE_OFF.name),
    ),
    "client_calls": Section(
        "cpu",
        {
            gateways.CLIENT.name: "not recorded",
            gateways.CLIENT_CHATSCOPE.name: "chatscope",
            gateways.CLIENT_OPENLLMETRY.name: f"OpenLLMetry {_OPENLLMETRY}",
        },
        {kind: f"{kind}, {cpu.UNITS[kind]}" for kind in _CLIENT_KINDS},
        cpu.CHUNK,
        (gateways.CLIENT_CHATSCOPE.name,),
    ),
    "http_requests": Section(
        "overhead",
        {
            "chatscope": "chatscope",
            "chatscope, stock HTTP": "chatscope, `CHATSCOPE_HTTP_INSTRUMENTATION=stock`",
            "stock": _pinned("opentelemetry-instrumentation-asgi", "asgi"),
            "stock for Starlette": _pinned("opentelemetry-instrumentation-starlette", "starlette"),
            "logfire": _pinned("logfire", "logfire"),
            "prometheus, loguru": f"{_pinned('prometheus-client', 'prometheus')} and loguru",
        },
        {
            overhead.REQUEST: "JSON request, µs",
            overhead.LOOP: "on the event loop, µs",
            overhead.CHUNK: "streamed chunk, µs",
            overhead.OF_STOCK: "of stock",
        },
        overhead.REQUEST,
    ),
    "export": Section(
        "otlp",
        {
            otlp.CONFIGURED: "chatscope.configure()",
            otlp.OURS: "chatscope.otlp",
            otlp.OFFICIAL: "official",
        },
        {
            f"{item}, {batch}": f"{item}, {batch}, µs"
            for item in ("span", "log")
            for batch in otlp.BATCHES
        },
        f"span, {otlp.BATCH_512}",
    ),
    "latency": Section(
        "latency",
        {"chatscope": "chatscope", "SDK's defaults": "the SDK's defaults"},
        {
            f"{signal}, {rank}": f"{signal}, {rank}, s"
            for signal in ("trace", "log", "metric")
            for rank in ("p50", "p95")
        },
    ),
    **{f"backends_{s.replace(' ', '_')}": _of_backends(s) for s in backends.SIGNALS},
    "stored": Section(
        "stored",
        {stored.name_of(days): stored.name_of(days) for days in stored.DAYS},
        {
            **{f"{signal}, CPU": f"{signal}, ms for 1,000" for signal in backends.SIGNALS},
            **{f"{name}, idle CPU": f"{name} idle, ms a second" for name in stored.STORES},
            **{f"{name}, memory": f"{name}, MB of memory" for name in stored.STORES},
            **{f"{name}, start": f"{name}, s to start" for name in stored.STORES},
        },
    ),
    "stored_queries": Section(
        "stored",
        {stored.name_of(days): stored.name_of(days) for days in stored.DAYS},
        {
            f"{name}, query of {span}": f"{name}, {span}, s"
            for name in stored.STORES
            for span in stored.SPANS
        },
    ),
    "start": Section(
        "start",
        {"ours": "this configuration", "own defaults": "own defaults"},
        {name: f"{name}, s" for name in ("collector", "prometheus", "loki", "tempo", "all four")},
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and the charts."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.performance", description=__doc__.partition("\n")[0]
    )
    parser.parse_args(arguments)
    names = {section.benchmark for section in SECTIONS.values()}
    names |= {goal.benchmark for goal in GOALS if goal.benchmark is not None}
    found = {name: result for name in names if (result := results.load(name)) is not None}
    for path, text in files(found).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))
    return 0


def files(found: Mapping[str, Result]) -> dict[Path, str]:
    """Return the text of the page and of each chart, from the results by benchmark."""
    parts, made = {"goals": _goals(found)}, {}
    for name, section in SECTIONS.items():
        result = found.get(section.benchmark)
        parts[name] = _table(section, result)
        if result is not None and (svg := _chart(section, result)):
            path = IMAGES / f"{name.replace('_', '-')}.svg"
            made[path] = svg
            parts[name] += f"\n![{section.charted}]({path.relative_to(PAGE.parent).as_posix()})\n"
    return {**made, PAGE: Template(_TEMPLATE.read_text()).substitute(parts)}


def _goals(found: Mapping[str, Result]) -> str:
    lines = ["| cost | goal | measured | reached | benchmark |", "|---|---|---|---|---|"]
    lines += [_goal(goal, found) for goal in GOALS]
    used = {goal.benchmark for goal in GOALS}
    facts = [_measured(result) for name, result in sorted(found.items()) if name in used]
    return "\n".join([*lines, "", *facts])


def _goal(goal: Goal, found: Mapping[str, Result]) -> str:
    limit = f"≤ {round(goal.limit, 2):,g} {goal.unit}"
    result = found.get(goal.benchmark or "")
    row = result.find(goal.row, goal.variant) if result else None
    value, reached = NOT_MEASURED, ""
    if row is not None:
        value = f"{_value(row)} {goal.unit}"
        reached = "yes" if row.value <= goal.limit else "**no**"
    benchmark = f"`bench.{goal.benchmark}`" if goal.benchmark else "none yet"
    return f"| {goal.text} | {limit} | {value} | {reached} | {benchmark} |"


def _table(section: Section, result: Result | None) -> str:
    lines = [
        f"| variant | {' | '.join(section.figures.values())} |",
        "|---" * (len(section.figures) + 1) + "|",
    ]
    for variant, name in section.variants.items():
        rows = [result.find(figure, variant) if result else None for figure in section.figures]
        cells = [_value(row) if row else "" for row in rows]
        if not any(cells):
            cells[0] = _reason(result.missing.get(variant) if result else None)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _measured(result) if result else ""])


def _value(row: Row) -> str:
    spread = f" ± {number_text(row.spread / 2)}" if row.spread else ""
    return number_text(row.value) + spread


def _reason(text: str | None) -> str:
    """Return why a variant has no figures, in one line without the separator of columns."""
    if text is None:
        return NOT_MEASURED
    return f"{NOT_MEASURED}: {' '.join(text.replace('|', '/').split())[:_LONGEST_REASON]}"


def _measured(result: Result) -> str:
    """Return one line about where and how a result was measured."""
    facts = [f"Measured {result.date:%Y-%m-%d %H:%M} UTC by `{result.command}`"]
    if result.python is not None and result.cores is not None:
        facts.append(f"Python {result.python}, {result.cores} cores")
    if result.load is not None:
        facts.append("load average {:.1f} before and {:.1f} after".format(*result.load))
    if result.commit is not None:
        facts.append(f"commit {result.commit}")
    return f"*{', '.join(facts)}.*\n"


def _chart(section: Section, result: Result) -> str | None:
    """Return the chart of a section, None if there is nothing to show."""
    if section.charted is None:
        return None
    rows = [
        (row, variant)
        for variant in section.variants
        if (row := result.find(section.charted, variant)) is not None
    ]
    bars = [
        Bar(section.variants[variant], row.value, row.spread, variant in section.ours)
        for row, variant in rows
    ]
    return chart(f"{section.charted}, {rows[0][0].unit} of CPU", bars) if bars else None


if __name__ == "__main__":
    raise SystemExit(main())
