"""The queries that find a chat."""

from stack.firstchat import queries


def test_traceql_has_the_id_as_tempo_compares_it() -> None:
    assert queries("00ab" * 8)["TraceQL"] == '{ trace:id = "ab' + "00ab" * 7 + '" }'


def test_logql_has_the_id_as_it_is() -> None:
    assert f'trace_id="{"00ab" * 8}"' in queries("00ab" * 8)["LogQL"]
