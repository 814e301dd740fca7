"""Tests that depend on how the stack runs, not only on its components: repeated in containers.

Addresses, published ports, flags, mounts, volumes and rights are set in docker-compose.yml for
containers and in stack/process-compose.yaml for processes. Everything else is tested once,
natively.
"""

from tests.chaos.test_service_killed import (
    test_service_killed_while_the_collector_hangs_loses_nothing,
)
from tests.chaos.test_tempo_killed import (
    test_block_that_a_kill_left_incomplete_is_repaired_and_found,
)
from tests.stack.test_alertmanager import test_it_runs_with_our_configuration_and_no_peers
from tests.stack.test_grafana import (
    log,
    test_alertmanager_answers_it,
    test_backend_answers_the_query,
    test_each_backend_has_its_datasource_uid,
    test_it_has_nothing_to_complain_about,
    test_it_is_healthy_in_the_pinned_version,
    test_visitor_cannot_write,
    visitor,
)
from tests.stack.test_loki_rules import (
    test_loki_has_each_rule_and_can_answer_it,
    test_loki_reads_the_rules_from_our_folder,
)
from tests.stack.test_metrics import (
    test_host_is_measured,
    test_only_the_components_are_scraped,
    test_scrapers_get_the_services_metrics_only,
)
from tests.stack.test_pipeline import (
    test_others_send_over_otlp_http,
    test_retention_is_the_same_in_each_backend,
)
from tests.stack.test_rules import (
    test_each_rule_is_loaded_and_healthy,
    test_prometheus_sends_to_alertmanager,
)
from tests.stack.test_turns import (
    lines,
    observed,
    spans,
    test_counts_rise_by_exactly_this_turn,
    test_every_exemplar_leads_back_to_the_trace,
    test_log_lines_are_found_by_trace_id_as_structured_records,
    test_texts_reach_no_backend,
    test_turn_is_one_trace_with_the_right_parents,
)

__all__ = [
    "lines",
    "log",
    "observed",
    "spans",
    "test_alertmanager_answers_it",
    "test_backend_answers_the_query",
    "test_block_that_a_kill_left_incomplete_is_repaired_and_found",
    "test_counts_rise_by_exactly_this_turn",
    "test_each_backend_has_its_datasource_uid",
    "test_each_rule_is_loaded_and_healthy",
    "test_every_exemplar_leads_back_to_the_trace",
    "test_host_is_measured",
    "test_it_has_nothing_to_complain_about",
    "test_it_is_healthy_in_the_pinned_version",
    "test_it_runs_with_our_configuration_and_no_peers",
    "test_log_lines_are_found_by_trace_id_as_structured_records",
    "test_loki_has_each_rule_and_can_answer_it",
    "test_loki_reads_the_rules_from_our_folder",
    "test_only_the_components_are_scraped",
    "test_others_send_over_otlp_http",
    "test_prometheus_sends_to_alertmanager",
    "test_retention_is_the_same_in_each_backend",
    "test_scrapers_get_the_services_metrics_only",
    "test_service_killed_while_the_collector_hangs_loses_nothing",
    "test_texts_reach_no_backend",
    "test_turn_is_one_trace_with_the_right_parents",
    "test_visitor_cannot_write",
    "visitor",
]
