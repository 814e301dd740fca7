"""Metrics of model calls under one name, for all versions of the GenAI conventions.

Most libraries still use the names from before version 0.1.0. A process that exports both, as
during a migration, is counted by the newer names only: per operation, provider and model.
"""

from typing import Any, Final

from alerts.promql import aggregate_without, equals, matches, select
from alerts.rules import Rule, group, record
from alerts.windows import Windows
from chatscope.names import (
    CLIENT_INFERENCE_DURATION,
    CLIENT_INPUT_TOKENS,
    CLIENT_OUTPUT_TOKENS,
    CLIENT_TIME_TO_FIRST_CHUNK,
    GEN_AI_OPERATION_NAME,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_RESPONSE_MODEL,
    GEN_AI_TOKEN_TYPE,
    INFERENCE_OPERATIONS,
    OLDER_DURATION,
    OLDER_TIME_TO_FIRST_CHUNK,
    OLDER_TOKENS,
    SERVER_ADDRESS,
    SERVER_PORT,
    Metric,
    prometheus_label,
)
from dashboards import others
from dashboards.others import HISTOGRAM_PARTS, INSTANCE, JOB, Series

_CALLS: Final = matches(GEN_AI_OPERATION_NAME, "|".join(INFERENCE_OPERATIONS))
_SAME_CALLS: Final = ", ".join(
    [
        JOB,
        INSTANCE,
        *map(prometheus_label, (GEN_AI_OPERATION_NAME, GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL)),
    ]
)
# Not used by any dashboard; dropped to reduce the number of series.
_LEFT_OUT: Final = (GEN_AI_RESPONSE_MODEL, SERVER_ADDRESS, SERVER_PORT)
_TOKENS: Final = (("input", CLIENT_INPUT_TOKENS), ("output", CLIENT_OUTPUT_TOKENS))


def groups(windows: Windows) -> list[dict[str, Any]]:
    """Return the group of these rules; rules that read them must come after it."""
    rules = [
        *_united(others.CALL_SECONDS, CLIENT_INFERENCE_DURATION, OLDER_DURATION),
        *_united(others.FIRST_CHUNK_SECONDS, CLIENT_TIME_TO_FIRST_CHUNK, OLDER_TIME_TO_FIRST_CHUNK),
    ]
    for kind, newer in _TOKENS:
        where = equals(GEN_AI_TOKEN_TYPE, kind)
        labels = {prometheus_label(GEN_AI_TOKEN_TYPE): kind}
        rules += _united(others.CALL_TOKENS, newer, OLDER_TOKENS, where, **labels)
    return [group("genai", rules, windows.interval)]


def _united(made: Series, newer: Metric, older: Metric, *where: str, **labels: str) -> list[Rule]:
    return [
        record(
            f"{made.prometheus}_{part}",
            aggregate_without(
                "sum",
                f"""
  {select(newer, part=part)}
  or (
    {select(older, _CALLS, *where, part=part)}
    unless on ({_SAME_CALLS})
    {select(newer, part=part)}
  )
""",
                _LEFT_OUT,
            ),
            **labels,
        )
        for part in HISTOGRAM_PARTS
    ]
