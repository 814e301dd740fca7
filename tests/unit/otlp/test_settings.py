"""The variables `OTEL_EXPORTER_OTLP_*`: each one, for each signal, and what is wrong with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatscope.otlp.settings import (
    EndpointSettings,
    OtlpSettingsError,
    Signal,
    load_endpoints,
    read_headers,
)
from chatscope.otlp.variables import Protocol
from tests.unit.otlp.servers import Certificates, make_certificates

_PREFIX = "OTEL_EXPORTER_OTLP_"
_each_signal = pytest.mark.parametrize("signal", list(Signal))


def _load(**variables: object) -> dict[Signal, EndpointSettings]:
    return load_endpoints({f"{_PREFIX}{name}": str(value) for name, value in variables.items()})


def _problems(**variables: object) -> list[str]:
    with pytest.raises(OtlpSettingsError) as caught:
        _load(**variables)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_without_variables_it_is_the_collector_on_this_machine() -> None:
    for signal, found in load_endpoints({}).items():
        assert found == EndpointSettings(signal=signal)
        assert (found.protocol, found.target, found.tls) == (Protocol.GRPC, "localhost:4317", False)
        assert (found.timeout, found.gzip, found.headers) == (10.0, False, ())


_VALUES: list[tuple[str, str, Callable[[EndpointSettings], Any], Any]] = [
    ("ENDPOINT", "http://collector:14317", lambda found: found.url, "http://collector:14317"),
    ("HEADERS", "A=b%20c, d=e=f", lambda found: found.headers, (("a", "b c"), ("d", "e=f"))),
    ("COMPRESSION", "gzip", lambda found: found.gzip, True),
    ("COMPRESSION", "none", lambda found: found.gzip, False),
    ("TIMEOUT", "2.5", lambda found: found.timeout, 2.5),
    ("PROTOCOL", "http/protobuf", lambda found: found.protocol, Protocol.HTTP),
    ("PROTOCOL", "grpc", lambda found: found.protocol, Protocol.GRPC),
]
_OTHERS = {
    "ENDPOINT": "http://other:1",
    "HEADERS": "x=y",
    "COMPRESSION": "gzip",
    "TIMEOUT": "77",
    "PROTOCOL": "grpc",
}


@_each_signal
@pytest.mark.parametrize(("name", "value", "read", "expected"), _VALUES)
def test_variable_counts_for_all_signals_and_a_signals_own_before_it(
    signal: Signal, name: str, value: str, read: Callable[[EndpointSettings], Any], expected: Any
) -> None:
    assert {read(found) for found in _load(**{name: value}).values()} == {expected}
    own = _load(**{f"{signal.upper()}_{name}": value})
    assert read(own.pop(signal)) == expected
    assert {read(found) for found in own.values()} == {
        read(load_endpoints({})[other]) for other in own
    }
    both = _load(**{name: _OTHERS[name], **{f"{each.upper()}_{name}": value for each in Signal}})
    assert {read(found) for found in both.values()} == {expected}


@_each_signal
def test_certificates_count_for_all_signals_and_a_signals_own_before_it(
    signal: Signal, certificates: Certificates
) -> None:
    files = {
        "CERTIFICATE": certificates.authority,
        "CLIENT_KEY": certificates.client_key,
        "CLIENT_CERTIFICATE": certificates.client,
    }

    def read(found: EndpointSettings) -> tuple[Path | None, ...]:
        return found.certificate, found.client_key, found.client_certificate

    assert {read(found) for found in _load(**files).values()} == {tuple(files.values())}
    own = _load(**{f"{signal.upper()}_{name}": path for name, path in files.items()})
    assert [each for each, found in own.items() if read(found) != (None, None, None)] == [signal]


def test_empty_variable_counts_as_unset() -> None:
    assert _load(ENDPOINT="", TRACES_ENDPOINT=" ", TIMEOUT="", HEADERS=" ") == load_endpoints({})
    assert _load(TRACES_TIMEOUT="", TIMEOUT="3")[Signal.TRACES].timeout == 3


@pytest.mark.parametrize(
    ("value", "target", "tls"),
    [
        ("http://collector", "collector:4317", False),
        ("https://collector", "collector:443", True),
        ("https://collector:4317/ignored", "collector:4317", True),
        ("collector:4317", "collector:4317", True),
        ("http://[::1]:4317", "[::1]:4317", False),
        ("dns:///collector:4317", "dns:///collector:4317", False),
        ("unix:/run/collector.sock", "unix:/run/collector.sock", False),
    ],
)
def test_endpoint_of_grpc_is_a_target(value: str, target: str, *, tls: bool) -> None:
    found = _load(ENDPOINT=value)[Signal.LOGS]
    assert (found.target, found.tls) == (target, tls)


@pytest.mark.parametrize(("value", "scheme"), [("true", "http"), ("False", "https")])
def test_insecure_counts_where_the_endpoint_has_no_scheme(value: str, scheme: str) -> None:
    assert (
        _load(ENDPOINT="collector:1", INSECURE=value)[Signal.LOGS].url == f"{scheme}://collector:1"
    )
    assert _load(ENDPOINT="https://collector:1", INSECURE=value)[Signal.LOGS].tls


def test_http_adds_the_signals_path_except_to_its_own_endpoint() -> None:
    found = _load(
        PROTOCOL="http/protobuf", ENDPOINT="https://a/otlp/", LOGS_ENDPOINT="https://b/push"
    )
    assert {signal: each.url for signal, each in found.items()} == {
        Signal.TRACES: "https://a/otlp/v1/traces",
        Signal.METRICS: "https://a/otlp/v1/metrics",
        Signal.LOGS: "https://b/push",
    }


def test_http_has_a_default_port_of_its_own() -> None:
    found = _load(PROTOCOL="http/protobuf")
    assert found[Signal.TRACES].url == "http://localhost:4318/v1/traces"


def test_signals_can_have_different_protocols() -> None:
    found = _load(METRICS_PROTOCOL="http/protobuf")
    assert [each.protocol for each in found.values()] == [
        Protocol.GRPC,
        Protocol.HTTP,
        Protocol.GRPC,
    ]


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("PROTOCOL", "http/json", "must be grpc or http/protobuf (got 'http/json')"),
        ("COMPRESSION", "zstd", "must be gzip or none (got 'zstd')"),
        ("TIMEOUT", "10s", "must be a number of seconds above 0, up to 600 (got '10s')"),
        ("TIMEOUT", "0", "up to 600 (got '0')"),
        ("TIMEOUT", "nan", "up to 600 (got 'nan')"),
        ("TIMEOUT", "inf", "up to 600 (got 'inf')"),
        ("ENDPOINT", "htp://collector", "(got 'htp://collector': not an http or https URL)"),
        ("ENDPOINT", "http://", "(got 'http://': not an http or https URL)"),
        ("ENDPOINT", "http://collector:port", "(got 'http://collector:port': a port is a number"),
        ("ENDPOINT", "http://[::1", "(got 'http://[::1': not a valid URL)"),
        ("CERTIFICATE", "/nowhere/ca.pem", "(got '/nowhere/ca.pem': there is no such file)"),
        ("CERTIFICATE", __file__, "test_settings.py': it has no PEM certificate)"),
        ("CERTIFICATE", "/", "(got '/': it is not a file)"),
        ("ENDPOINT", "collector", "(got 'collector': neither a URL nor host:port)"),
        ("TIMEOUT", "10000", "seconds above 0, up to 600 (got '10000')"),
    ],
)
@pytest.mark.parametrize("signal", ["", "TRACES_", "METRICS_", "LOGS_"])
def test_invalid_value_is_named_with_its_variable_and_what_is_accepted(
    signal: str, name: str, value: str, accepted: str
) -> None:
    [problem] = _problems(**{f"{signal}{name}": value})
    assert problem.startswith(f"{_PREFIX}{signal}{name} ")
    assert accepted in problem


def test_insecure_is_true_or_false() -> None:
    [problem] = _problems(INSECURE="yes")
    assert problem == f"{_PREFIX}INSECURE must be true or false (got 'yes')"


@pytest.mark.parametrize("value", ["delta", "lowmemory"])
def test_only_cumulative_sums_are_accepted(value: str) -> None:
    [problem] = _problems(METRICS_TEMPORALITY_PREFERENCE=value)
    assert problem.startswith(f"{_PREFIX}METRICS_TEMPORALITY_PREFERENCE must be cumulative: ")
    assert f"(got {value!r})" in problem
    assert _load(METRICS_TEMPORALITY_PREFERENCE="Cumulative") == load_endpoints({})


def test_all_problems_are_reported_at_once_and_each_once() -> None:
    problems = _problems(
        PROTOCOL="thrift", TIMEOUT="soon", LOGS_COMPRESSION="zip", TRACES_ENDPOINT="ftp://x"
    )
    assert sorted(problem.split()[0].removeprefix(_PREFIX) for problem in problems) == [
        "LOGS_COMPRESSION",
        "PROTOCOL",
        "TIMEOUT",
        "TRACES_ENDPOINT",
    ]


@pytest.mark.parametrize(
    "value", ["sesame", "=sesame", "a b=sesame", "ä=sesame", "authorization=sesame%0Aopen"]
)
def test_invalid_headers_are_reported_without_their_values(value: str) -> None:
    [problem] = _problems(HEADERS=value)
    assert problem.startswith(f"{_PREFIX}HEADERS must be a comma list of name=value")
    assert "sesame" not in problem


def test_password_in_an_invalid_endpoint_is_not_shown() -> None:
    for value in (
        "http://user:sesame@collector:port",
        "ftp://user:sesame@collector",
        "http://user:sesame@collector:4317",
        "http://user:ses/ame@collector",
        "user:sesame@collector:4317",
        "http://user:sesame@collector\u2100",
    ):
        [problem] = _problems(ENDPOINT=value)
        assert "ses" not in problem
        assert "collector" in problem


def test_credentials_belong_in_headers() -> None:
    [problem] = _problems(ENDPOINT="http://user:sesame@collector:4317")
    reason = f"credentials belong in {_PREFIX}HEADERS"
    assert problem.endswith(f"(got 'http://***@collector:4317': {reason})")


def test_names_that_grpc_resolves_are_not_accepted_with_http() -> None:
    [problem] = _problems(ENDPOINT="dns:///collector:4318", PROTOCOL="http/protobuf")
    assert problem.startswith(f"{_PREFIX}ENDPOINT must be http://")
    assert "only gRPC resolves it" in problem


def test_value_that_is_not_utf8_is_reported() -> None:
    [problem] = _problems(COMPRESSION="\udcff")
    assert problem.startswith(f"{_PREFIX}COMPRESSION must be gzip or none (got ")
    assert problem.endswith("udcff': it is not UTF-8)")


def test_key_and_certificate_of_the_client_belong_together(certificates: Certificates) -> None:
    for given, missing in (
        ("CLIENT_KEY", "CLIENT_CERTIFICATE"),
        ("CLIENT_CERTIFICATE", "CLIENT_KEY"),
        ("LOGS_CLIENT_KEY", "CLIENT_CERTIFICATE"),
    ):
        path = certificates.client_key if given.endswith("KEY") else certificates.client
        [problem] = _problems(**{given: path})
        assert problem.startswith(f"{_PREFIX}{given} must be a key and its certificate, or neither")
        assert f"{_PREFIX}{missing} is not set" in problem
    [problem] = _problems(
        CLIENT_KEY=certificates.server_key, CLIENT_CERTIFICATE=certificates.client
    )
    assert problem.startswith(f"{_PREFIX}CLIENT_KEY must be the PEM key")
    assert "KEY_VALUES_MISMATCH" in problem
    [problem] = _problems(CLIENT_KEY=certificates.client, CLIENT_CERTIFICATE=certificates.client)
    assert "it has no PEM private key" in problem


def test_headers_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "headers"
    for text in ("sesame", "x=sesame\0"):
        path.write_text(text)
        with pytest.raises(OtlpSettingsError, match="headers file") as caught:
            load_endpoints({}, headers_file=path)
        assert len(caught.value.problems) == 1
        assert "sesame" not in str(caught.value)
    path.write_text("# tenant\nX-Tenant = a=b\n\n")
    assert read_headers(path) == (("x-tenant", "a=b"),)
    assert load_endpoints({}, headers_file=path)[Signal.LOGS].headers_file == path
    with pytest.raises(OtlpSettingsError, match="No such file"):
        load_endpoints({}, headers_file=tmp_path / "other")


def test_default_endpoint_is_used_where_no_variable_names_one() -> None:
    variables = {f"{_PREFIX}LOGS_ENDPOINT": "http://logs:1"}
    found = load_endpoints(variables, endpoint="http://shop:2")
    assert [each.url for each in found.values()] == [
        "http://shop:2",
        "http://shop:2",
        "http://logs:1",
    ]
