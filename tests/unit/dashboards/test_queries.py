"""Queries restrict to the chosen values, in each backend's notation."""

from chatscope.names import (
    EVENT_LOOP_LAG,
    HTTP_REQUEST_DURATION,
    HTTP_ROUTE,
    LLM_COST,
    LLM_RESPONSE_TIME,
)
from dashboards import queries
from dashboards.others import UP


def test_query_keeps_to_the_choices_that_its_metric_has() -> None:
    assert (
        queries.series(EVENT_LOOP_LAG)
        == 'chatscope_event_loop_lag_seconds{service_name=~"$service"}'
    )
    assert queries.series(LLM_COST) == (
        'llm_cost_total{service_name=~"$service", gen_ai_request_model=~"$model"}'
    )
    assert queries.series(HTTP_REQUEST_DURATION, part="count") == (
        'http_server_request_duration_seconds_count{service_name=~"$service", http_route=~"$route"}'
    )


def test_query_for_everything_or_for_another_part_has_no_choices() -> None:
    assert queries.series(LLM_COST, everything=True) == "llm_cost_total"
    assert queries.series(UP) == "up"


def test_attributes_are_spelt_as_labels() -> None:
    text = queries.rate(HTTP_REQUEST_DURATION, by=[HTTP_ROUTE], part="count", everything=True)
    assert text == (
        "sum by (http_route) (rate(http_server_request_duration_seconds_count[$__rate_interval]))"
    )


def test_quantile_keeps_the_buckets_apart() -> None:
    text = queries.quantile(0.95, LLM_RESPONSE_TIME, everything=True)
    assert text == (
        "histogram_quantile(0.95, sum by (le) "
        "(rate(llm_response_time_seconds_bucket[$__rate_interval])))"
    )


def test_ratio_of_nothing_is_nothing_rather_than_nan() -> None:
    assert queries.ratio("a", "b") == "a / (b > 0)"


def test_loki_is_never_asked_for_what_matches_nothing_and_all() -> None:
    assert queries.lines() == '{service_name=~"$service", service_name!=""}'


def test_text_field_values_are_inserted_unchanged() -> None:
    # Within double quotes, a quote or a backslash in the value would end or change the query.
    text, trace, conversation = queries.search()
    assert text == "|= `${text:raw}`"
    assert trace == "| trace_id=~`${trace:regex}.*`"
    assert conversation == (
        "| chatscope_connection_id=~`${conversation:regex}.*` "
        "or gen_ai_conversation_id=~`${conversation:regex}.*`"
    )
