"""Legends of series: label values that Grafana fills in."""

from chatscope.names import prometheus_label


def label(attribute: str) -> str:
    return f"{{{{{prometheus_label(attribute)}}}}}"
