"""Cores, disk and money for a number of responses a day, from measured costs.

    python -m bench.capacity           the table
    python -m bench.capacity --write   with the costs of the last results; writes the page

`make bench-capacity` measures first. The costs are those of `bench.cpu`, `bench.backends` and
`bench.stored`, and are taken to be linear; docs/performance.md shows how far they are. What one
process can do is not extrapolated: docs/scaling.md has the limits that the projects publish.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench import cpu, results
from bench.backends import OURS, SIGNALS, USUAL_RATE, example, loads
from bench.gateways import CHATSCOPE
from bench.stored import DAYS, LINES_IN_HOUR, SAMPLES_IN_DAY, SPAN_ON_DISK, name_of
from stack.facts import ROOT

COSTS: Final = Path(__file__).with_name("capacity.json")
PAGE: Final = ROOT / "docs" / "scaling.md"
BEGIN: Final = "<!-- made by python -m bench.capacity --write -->"
END: Final = "<!-- end -->"
RESPONSES_A_DAY: Final = (1_000_000, 10_000_000, 100_000_000)
_DAY_SECONDS: Final = 86_400

# Returns a figure by benchmark, row and variant.
Figure = Callable[[str, str, str], float]


class CostsError(RuntimeError):
    """A benchmark whose result is needed has none; the text has its command."""


@dataclass(frozen=True)
class Costs:
    """What was measured on one core."""

    # CPU of a relayed streamed response of 60 chunks, with telemetry, in ms.
    response_ms: float
    # CPU for 1,000 items in ms, by signal and component.
    cpu_ms: Mapping[str, Mapping[str, float]]
    # Kept on disk for one item, by signal.
    stored_bytes: Mapping[str, float]
    # Of one OTLP item, by signal.
    sent_bytes: Mapping[str, float]
    # Items a second that one Collector has accepted, by signal.
    highest_rate: Mapping[str, float]
    commit: str


@dataclass(frozen=True)
class Assumptions:
    """What differs between services: replace it by figures of your own."""

    spans: float = 4  # of one response
    log_records: float = 2
    # Of one replica: measured, with about 700 series, which are exported once a second.
    samples_a_second: float = 550
    # The busiest hour, as a multiple of the mean.
    peak: float = 4
    # Of a core at the peak; the rest is for catching up and for queries.
    used: float = 0.5
    retention_days: int = 15
    # US dollars a month: a core with 4 GB of memory, a GB on a disk, a GB in object storage.
    core_usd: float = 30
    disk_usd: float = 0.08
    object_usd: float = 0.023


@dataclass(frozen=True)
class Plan:
    """What a number of responses a day needs; `cores` by component, at the peak."""

    responses: int
    peak: float  # responses a second
    rates: Mapping[str, float]  # items a second at the peak, by signal
    cores: Mapping[str, float]
    replicas: int
    sent_gb: Mapping[str, float]  # a day
    disk_gb: float
    usd: float
    usd_with_objects: float


def plan(responses: int, costs: Costs, given: Assumptions) -> Plan:
    """Return what so many responses a day need."""
    mean = responses / _DAY_SECONDS
    peak = mean * given.peak
    service = peak * costs.response_ms / 1e3 / given.used
    replicas = max(1, math.ceil(service))  # a worker uses one core
    samples = given.samples_a_second * replicas
    rates = {
        "spans": peak * given.spans,
        "log records": peak * given.log_records,
        "samples": samples,
    }
    cores = {"service": service}
    for signal, rate in rates.items():
        for component, ms in costs.cpu_ms[signal].items():
            cores[component] = cores.get(component, 0.0) + rate * ms / 1e6 / given.used
    daily = {
        "spans": responses * given.spans,
        "log records": responses * given.log_records,
        "samples": samples * _DAY_SECONDS,
    }
    disk = sum(daily[signal] * costs.stored_bytes[signal] for signal in SIGNALS)
    disk_gb = disk * given.retention_days / 1e9
    machines = sum(map(math.ceil, cores.values())) * given.core_usd
    return Plan(
        responses=responses,
        peak=peak,
        rates=rates,
        cores=cores,
        replicas=replicas,
        sent_gb={name: daily[name] * costs.sent_bytes[name] / 1e9 for name in SIGNALS},
        disk_gb=disk_gb,
        usd=machines + disk_gb * given.disk_usd,
        usd_with_objects=machines + disk_gb * given.object_usd,
    )


# -- a backend that is down


@dataclass(frozen=True)
class Backlog:
    """Items that are queued at the end of a backend's outage, and seconds to deliver them."""

    items: float
    catch_up_seconds: float


def backlog(rate: float, capacity: float, outage_seconds: float) -> Backlog:
    """Return the backlog of an outage at a rate, where a backend can do `capacity` items a second.

    Raises ValueError if the capacity is no more than the rate: it would never catch up.
    """
    if capacity <= rate:
        raise ValueError(f"{capacity:g} items a second are no more than {rate:g}")
    items = rate * outage_seconds
    return Backlog(items, items / (capacity - rate))


# -- costs


def measured() -> Costs:
    """Return the costs of the last results. Raises CostsError."""
    found = {name: results.load(name) for name in ("cpu", "backends", "stored")}
    if missing := [name for name, result in found.items() if result is None]:
        raise CostsError(f"no result of {', '.join(f'python -m bench.{each}' for each in missing)}")

    def figure(benchmark: str, row: str, variant: str) -> float:
        result = found[benchmark]
        one = result.find(row, variant) if result else None
        if one is None:
            raise CostsError(f"python -m bench.{benchmark} has no '{row}' of '{variant}'")
        return one.value

    usual = {load.signal: load for load in loads() if load.rate == USUAL_RATE and load.is_usual}
    fastest = {load.signal: load for load in loads() if load.rate is None}
    components = {
        "spans": ("collector", "tempo", "prometheus"),
        "log records": ("collector", "loki"),
        "samples": ("collector", "prometheus"),
    }
    backends = found["backends"]
    return Costs(
        response_ms=figure("cpu", cpu.RELAYED_STREAM, CHATSCOPE.name),
        cpu_ms={
            signal: {
                name: figure("backends", usual[signal].name, f"{OURS}, {name}") for name in names
            }
            for signal, names in components.items()
        },
        stored_bytes=_stored_bytes(figure),
        sent_bytes={signal: example(signal) for signal in SIGNALS},
        highest_rate={
            signal: figure("backends", fastest[signal].accepted_name, f"{OURS}, together")
            for signal in SIGNALS
        },
        commit=(backends.commit if backends else None) or "",
    )


def _stored_bytes(figure: Figure) -> dict[str, float]:
    """Return what an item takes on disk: the growth between two numbers of days."""
    few, many = DAYS[1], DAYS[-1]
    items = {"log records": ("loki", LINES_IN_HOUR * 24), "samples": ("prometheus", SAMPLES_IN_DAY)}
    # Tempo keeps a second copy, for TraceQL metrics.
    found = {"spans": 2 * figure("stored", SPAN_ON_DISK, name_of(0))}
    for signal, (backend, in_day) in items.items():
        row = f"{backend}, disk"
        growth = figure("stored", row, name_of(many)) - figure("stored", row, name_of(few))
        found[signal] = growth * 1e6 / (many - few) / in_day
    return found


def load_costs(path: Path = COSTS) -> Costs:
    """Return the committed costs."""
    return Costs(**json.loads(path.read_text()))


# -- the page


def section(costs: Costs, given: Assumptions) -> str:
    """Return the tables of the page."""
    plans = [plan(responses, costs, given) for responses in RESPONSES_A_DAY]
    head = " | ".join(f"{each.responses / 1e6:g} million" for each in plans)
    lines = [
        f"| responses a day | {head} |",
        f"|---|{'---|' * len(plans)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in _rows(plans)),
    ]
    return "\n".join(lines)


def _rows(plans: Sequence[Plan]) -> Iterator[tuple[str, list[str]]]:
    yield "responses a second at the peak", [f"{each.peak:,.0f}" for each in plans]
    for signal in SIGNALS:
        name = f"{signal} a second at the peak"
        yield name, [f"{each.rates[signal]:,.0f}" for each in plans]
    for component in plans[0].cores:
        yield f"cores: {component}", [f"{each.cores[component]:,.1f}" for each in plans]
    yield "log records, GB a day as sent", [f"{p.sent_gb['log records']:,.1f}" for p in plans]
    yield "spans, GB a day as sent", [f"{each.sent_gb['spans']:,.1f}" for each in plans]
    yield "stored, GB", [f"{each.disk_gb:,.0f}" for each in plans]
    yield "US dollars a month, on disks", [f"{each.usd:,.0f}" for each in plans]
    objects = [f"{each.usd_with_objects:,.0f}" for each in plans]
    yield "US dollars a month, in object storage", objects


def with_section(page: str, text: str, begin: str = BEGIN) -> str:
    """Return the page with the section replaced that starts with the comment `begin`.

    Raises ValueError if it has no place for it.
    """
    before, found, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise ValueError(f"the page has no {begin} … {END}")
    return f"{before}{begin}\n\n{text}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; write the costs and the page if it is asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.capacity", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--write", action="store_true", help="write the costs and the page")
    defaults = Assumptions()
    for name, value in asdict(defaults).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, help=f"default {value:g}")
    options = vars(parser.parse_args(sys.argv[1:] if arguments is None else arguments))
    write = options.pop("write")
    given = Assumptions(**options)
    try:
        costs = measured() if write else load_costs()
    except CostsError as error:
        parser.error(str(error))
    text = section(costs, given)
    print(text)
    if write:
        COSTS.write_text(json.dumps(asdict(costs), indent=2) + "\n")
        PAGE.write_text(with_section(PAGE.read_text(), section(costs, defaults)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
