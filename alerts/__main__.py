"""Writes the rule files of Prometheus and Loki: `python -m alerts`."""

import argparse
import sys
from pathlib import Path
from typing import Final

from alerts import budgets, keys, llm, logs, pipeline, service
from alerts.objectives import FILE, ObjectivesError, Wanted, read
from alerts.rules import encode
from alerts.windows import ALL, NORMAL, Windows

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "prometheus" / "rules"
_PROMETHEUS: Final = "prometheus, by `rule_files`; its tests are beside it"
LOKI_FILE: Final = ROOT / "loki" / "rules" / "fake" / "logs.rules.yaml"
_LOKI: Final = "loki's ruler, as rules of the tenant `fake`, which is all there is without logins"


def files(wanted: Wanted, windows: Windows = NORMAL) -> dict[str, str]:
    """Return the text of each file by its path in the checkout. Raises SlothError."""
    made = {
        "service": ("availability, errors, latency and saturation of services", service.groups),
        "llm": ("errors, latency and cost of models", llm.groups),
        "keys": ("budgets of API keys", keys.groups),
        "pipeline": ("delivery of telemetry", pipeline.groups),
        "objectives": ("objectives and their error budgets", budgets.groups),
    }
    texts = {
        FOLDER / f"{name}.rules.yaml": encode(groups(wanted, windows), what, _PROMETHEUS)
        for name, (what, groups) in made.items()
    }
    texts[LOKI_FILE] = encode(
        logs.groups(wanted, windows), "bursts of errors, and errors of a new kind", _LOKI
    )
    return {path.relative_to(ROOT).as_posix(): text for path, text in texts.items()}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m alerts", description=__doc__)
    parser.add_argument("--windows", choices=ALL, default=NORMAL.name, help="drill: seconds")
    parser.add_argument("--objectives", type=Path, default=FILE, help="another objectives.yaml")
    parser.add_argument("--to", type=Path, default=ROOT, help="in the place of the checkout")
    chosen = parser.parse_args(arguments)
    try:
        made = files(read(chosen.objectives), ALL[chosen.windows])
    except (ObjectivesError, budgets.SlothError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    for name, text in made.items():
        path = chosen.to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
