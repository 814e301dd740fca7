"""What names a line: the values of its labels, which Grafana fills in."""

from chatscope.names import prometheus_label


def label(attribute: str) -> str:
    return f"{{{{{prometheus_label(attribute)}}}}}"
