"""Grafana in its container, the most common way to run it: dashboards, links and pages."""

from tests.browser.conftest import browser
from tests.browser.test_boards import page, seen, test_every_panel_shows_something, url, window
from tests.stack.test_grafana_boards import (
    test_dashboard_equals_its_file,
    test_datasource_is_healthy,
    test_no_other_dashboard_is_provisioned,
    test_queries_of_every_panel_go_through,
    visitor,
)
from tests.stack.test_links import (
    grafana,
    lines,
    request_in_64_bits,
    spans,
    test_grafana_cuts_the_id_of_a_64_bit_caller,
    test_grafana_finds_the_lines_of_a_span,
    test_grafana_finds_the_metrics_of_a_span,
    test_grafana_finds_the_trace_of_an_exemplar,
    test_grafana_reads_the_links_as_these_tests_do,
    turn,
)

__all__ = [
    "browser",
    "grafana",
    "lines",
    "page",
    "request_in_64_bits",
    "seen",
    "spans",
    "test_dashboard_equals_its_file",
    "test_datasource_is_healthy",
    "test_every_panel_shows_something",
    "test_grafana_cuts_the_id_of_a_64_bit_caller",
    "test_grafana_finds_the_lines_of_a_span",
    "test_grafana_finds_the_metrics_of_a_span",
    "test_grafana_finds_the_trace_of_an_exemplar",
    "test_grafana_reads_the_links_as_these_tests_do",
    "test_no_other_dashboard_is_provisioned",
    "test_queries_of_every_panel_go_through",
    "turn",
    "url",
    "visitor",
    "window",
]
