"""Alertmanager's configuration, its generation by start.sh, and the routing of alerts."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.facts import ROOT
from stack.local_http import local_client
from stack.waiting import poll_until
from tests.alerting import listening, started
from tests.config.conftest import Run
from tests.config.files import ALERTMANAGER, COMPOSE, PROCESSES, literal_addresses, parsed
from tests.config.files import variables as variables_of

_START = ROOT / "alertmanager" / "start.sh"
# An environment with all receivers.
_EVERYBODY = {
    "ALERT_WEBHOOK_URL": "https://hook.example.com/?a=1&b=%20#c",
    "ALERT_WATCHDOG_URL": "https://watchdog.example.com",
    "ALERT_SLACK_URL": "https://slack.example.com/services/T/B/secret",
    "ALERT_SLACK_CHANNEL": "#alerts",
    "ALERT_PAGERDUTY_KEY": "k-0123",
    "ALERT_EMAIL_TO": "ann@example.com",
    "ALERT_EMAIL_FROM": "chatscope@example.com",
    "ALERT_SMTP_HOST": "mail.example.com:587",
    "ALERT_SMTP_USER": "user",
    "ALERT_SMTP_PASSWORD": "p-0123",
}
_HOSTILE = [
    "it's",
    'say "hi"',
    "$HOME ${HOME} $(id) `id`",
    "a\\nb \\ c",
    "- a: b # c",
    "*alias &anchor !tag %x",
    "' + '",
    "  blanks  ",
    "} # with NOBODY",
    "zwölf ✓",
    "true",
    "-n",
]
# Values that may be in the configuration.
_SHOWN = ("ALERT_SLACK_CHANNEL", "ALERT_EMAIL_TO", "ALERT_EMAIL_FROM", "ALERT_SMTP_USER")
_SECRET = ("ALERT_PAGERDUTY_KEY", "ALERT_SMTP_PASSWORD")

Made = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=["sh", "busybox sh"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """Run start.sh by each shell, with a program that only prints its flags."""
    shell = request.param.split()
    if subprocess.run(["which", shell[0]], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no {shell[0]}")

    def ran(**environ: str) -> subprocess.CompletedProcess[str]:
        # No other program is available, as in the container.
        given = {"PATH": str(tmp_path / "nothing"), "RUN_DIR": str(tmp_path)}
        program = ["/bin/echo", "--flag=a b"]
        return subprocess.run(
            [_program(shell[0]), *shell[1:], _START, *program],
            env={"GRAFANA_PUBLIC_URL": "https://grafana.example.com", **given, **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    return ran


def _program(name: str) -> str:
    found = subprocess.run(["which", name], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def receivers(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the generated files by name."""
    config = parsed(directory / "alertmanager.yml")
    return {receiver.pop("name"): receiver for receiver in config["receivers"]}


def test_it_is_started_on_its_own_volume_and_address_and_looks_for_no_peers() -> None:
    started_with = parsed(PROCESSES)["processes"]["alertmanager"]["entrypoint"]
    assert started_with[1:6] == [
        *("${REPO_DIR}/stack/own.sh", "alertmanager"),
        *("sh", "${REPO_DIR}/alertmanager/start.sh", "${ALERTMANAGER_BIN}"),
    ]
    assert set(started_with) >= {
        "--storage.path=${DATA_DIR}/alertmanager",
        "--data.retention=${RETENTION}",
        "--web.listen-address=${STACK_LISTEN}:${ALERTMANAGER_PORT}",
        "--cluster.listen-address=",
    }


def test_in_its_container_the_same_script_starts_it_and_writes_into_memory_only() -> None:
    service = parsed(COMPOSE)["services"]["alertmanager"]
    assert service["entrypoint"][1:] == [
        "sh",
        "/etc/alertmanager/start.sh",
        "/bin/alertmanager",
    ]
    user, group = service["user"].split(":")
    place = service["environment"]["RUN_DIR"]
    assert service["tmpfs"] == [f"{place}:uid={user},gid={group},mode=700"]


def test_without_a_place_for_its_configuration_it_does_not_start(made: Made) -> None:
    done = made(RUN_DIR="/proc/nowhere")
    assert (done.returncode != 0, done.stdout) == (True, "")


def test_every_variable_that_it_knows_is_handed_to_its_container() -> None:
    handed = parsed(COMPOSE)["services"]["alertmanager"]["environment"]
    in_files = re.search(r"^for name in ([A-Z_ ]+); do$", _START.read_text(), re.MULTILINE)
    assert in_files
    files = {f"{name}_FILE" for name in in_files[1].split()}
    assert {name for name in handed if name.startswith("ALERT_")} == _known() | files


def test_every_variable_is_documented_with_its_default() -> None:
    page = (ROOT / "docs" / "running.md").read_text()
    rows = dict(re.findall(r"^\| `(ALERT_\w+)` \| (\S+) \|", page, re.MULTILINE))
    defaults = re.findall(r'^: "\$\{(ALERT_\w+):=(.+)\}"$', _START.read_text(), re.MULTILINE)
    assert rows == dict.fromkeys(_known(), "unset") | {name: f"`{d}`" for name, d in defaults}


def _known() -> set[str]:
    texts = ALERTMANAGER.read_text() + _START.read_text()
    return set(re.findall(r"\b(ALERT_[A-Z_]+)\b", texts))


def test_every_place_in_the_file_is_filled_in_by_the_script() -> None:
    named = variables_of(ALERTMANAGER) - {"NAME"}
    assert named == {name for name in named if name in _START.read_text()}
    assert {name for name in named if name.startswith("ALERT_")} <= _known()


def test_no_address_or_port_is_spelled_out() -> None:
    assert literal_addresses(ALERTMANAGER) == []


def test_how_long_is_waited_is_what_is_said(made: Made, tmp_path: Path) -> None:
    for said, waited in (({}, ("15s", "1m")), ({"ALERT_GROUP_WAIT": "2s"}, ("2s", "1m"))):
        made(**said)
        route = parsed(tmp_path / "alertmanager.yml")["route"]
        assert (route["group_wait"], route["group_interval"]) == waited


def test_receivers_are_optional(made: Made, tmp_path: Path) -> None:
    done = made()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [
        "--flag=a",
        "b",
        f"--config.file={tmp_path}/alertmanager.yml",
        "--web.external-url=https://grafana.example.com",
        "--web.route-prefix=/",
    ]
    assert receivers(tmp_path) == {"none": {}, "watchdog": {}, "warning": {}, "critical": {}}


def test_an_empty_variable_is_an_unset_one(made: Made, tmp_path: Path) -> None:
    assert made(**dict.fromkeys(_EVERYBODY, "")).returncode == 0
    assert receivers(tmp_path)["critical"] == {}


def test_only_configured_receivers_are_notified(made: Made, tmp_path: Path) -> None:
    made(ALERT_SLACK_URL=_EVERYBODY["ALERT_SLACK_URL"])
    assert {name: set(found) for name, found in receivers(tmp_path).items()} == {
        "none": set(),
        "watchdog": set(),
        "warning": {"slack_configs"},
        "critical": {"slack_configs"},
    }


def test_all_receivers_are_notified_but_pagerduty_only_of_critical_alerts(
    made: Made, tmp_path: Path
) -> None:
    assert made(**_EVERYBODY).stderr == ""
    people = {"webhook_configs", "slack_configs", "email_configs"}
    assert {name: set(found) for name, found in receivers(tmp_path).items()} == {
        "none": set(),
        "watchdog": {"webhook_configs"},
        "warning": people,
        "critical": {*people, "pagerduty_configs"},
    }


@pytest.mark.parametrize("value", _HOSTILE)
def test_a_value_arrives_as_it_is(made: Made, tmp_path: Path, value: str) -> None:
    hostile = dict.fromkeys((*_SHOWN, *_SECRET), value)
    done = made(**{**_EVERYBODY, **hostile})
    assert (done.returncode, done.stderr) == (0, "")
    found = receivers(tmp_path)["critical"]
    # Alertmanager would parse the word as another type.
    expected = True if value == "true" else value
    assert found["slack_configs"][0]["channel"] == expected
    assert found["email_configs"][0]["to"] == expected
    assert found["email_configs"][0]["from"] == expected
    assert found["email_configs"][0]["auth_username"] == expected
    key = Path(found["pagerduty_configs"][0]["routing_key_file"])
    password = Path(found["email_configs"][0]["auth_password_file"])
    assert key.read_text() == value
    assert password.read_text() == value


def test_no_secret_is_in_the_configuration_or_readable_by_others(
    made: Made, tmp_path: Path
) -> None:
    made(**_EVERYBODY)
    text = (tmp_path / "alertmanager.yml").read_text()
    for name in ("ALERT_WEBHOOK_URL", "ALERT_WATCHDOG_URL", "ALERT_SLACK_URL", *_SECRET):
        assert _EVERYBODY[name] not in text
        assert (tmp_path / name).read_text() == _EVERYBODY[name]
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {"0o600"}


def test_a_secret_that_is_no_longer_given_is_gone(made: Made, tmp_path: Path) -> None:
    made(**_EVERYBODY)
    made()
    kept = [file for file in tmp_path.glob("ALERT_*") if file.read_text()]
    assert kept == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALERT_WEBHOOK_URL", "example.com/hook"),
        ("ALERT_WEBHOOK_URL", "https:///hook"),
        ("ALERT_SLACK_URL", "https://example.com/a b"),
        ("ALERT_WATCHDOG_URL", "https://example.com/\nX: y"),
        ("ALERT_PAGERDUTY_URL", "ftp://example.com"),
        ("GRAFANA_PUBLIC_URL", "grafana"),
        ("ALERT_PAGERDUTY_KEY", "a\nb"),
        ("ALERT_SLACK_CHANNEL", "#a\nb"),
        ("ALERT_SLACK_CHANNEL", "{{ .ExternalURL }}"),
        ("ALERT_EMAIL_TO", "a@example.com\nBcc: b@example.com"),
        ("ALERT_SMTP_PASSWORD", "tab\there"),
        ("ALERT_SMTP_HOST", "mail.example.com"),
        ("ALERT_SMTP_HOST", ""),
        ("ALERT_EMAIL_FROM", ""),
        ("ALERT_SMTP_USER", ""),
        ("ALERT_SMTP_REQUIRE_TLS", "maybe"),
        ("ALERT_GROUP_WAIT", "17"),
        ("ALERT_GROUP_WAIT", "1.5m"),
        ("ALERT_GROUP_INTERVAL", "0s"),
    ],
)
def test_a_bad_value_stops_it_by_name_and_is_not_shown(
    made: Made, tmp_path: Path, name: str, value: str
) -> None:
    done = made(**{**_EVERYBODY, name: value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"{name} is not accepted: it must be ")
    assert len(done.stderr.splitlines()) == 1
    assert not value or value not in done.stderr
    assert not (tmp_path / "alertmanager.yml").exists()


def test_all_that_is_wrong_is_said_at_once(made: Made) -> None:
    said = made(ALERT_WEBHOOK_URL="x", ALERT_EMAIL_TO="a@example.com").stderr
    assert re.findall(r"^\w+", said, re.MULTILINE) == [
        "ALERT_WEBHOOK_URL",
        "ALERT_EMAIL_FROM",
        "ALERT_SMTP_HOST",
    ]


@pytest.mark.parametrize("environ", [{}, _EVERYBODY], ids=["none", "all"])
def test_amtool_accepts_what_is_made(
    made: Made, run: Run, tmp_path: Path, environ: dict[str, str]
) -> None:
    made(**environ)
    judged = run("amtool", "check-config", tmp_path / "alertmanager.yml")
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert "1 templates" in judged.stdout


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"alertname": "ServiceDown", "severity": "critical"}, "critical"),
        ({"alertname": "ErrorRateHigh", "severity": "warning"}, "warning"),
        ({"alertname": "SomebodysOwn"}, "warning"),
        ({"alertname": "SomebodysOwn", "severity": "none"}, "none"),
        ({"alertname": "Watchdog", "severity": "none"}, "watchdog"),
    ],
)
def test_an_alert_goes_to(
    made: Made, run: Run, tmp_path: Path, labels: dict[str, str], receiver: str
) -> None:
    made(**_EVERYBODY)
    config = f"--config.file={tmp_path / 'alertmanager.yml'}"
    words = [f"{name}={value}" for name, value in labels.items()]
    judged = run("amtool", "config", "routes", "test", config, *words)
    assert judged.stdout.strip() == receiver, judged.stderr


def test_a_secret_may_be_in_a_file(binary: Callable[[str], Path], tmp_path: Path) -> None:
    binary("alertmanager")
    secret = tmp_path / "hook"
    secret.write_text("https://example.com/secret-hook\n")
    with started(tmp_path, str, ALERT_WEBHOOK_URL_FILE=str(secret)) as process:
        listening(process)
        kept = (tmp_path / "run" / "ALERT_WEBHOOK_URL").read_text()
    assert kept == "https://example.com/secret-hook"


def test_an_inhibition_names_only_alerts_that_there_are() -> None:
    named = {
        alert
        for rule in parsed(ALERTMANAGER)["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        if matcher.startswith("alertname")
        for alert in matcher.partition('"')[2].strip('"').split("|")
    }
    files = [*ROOT.glob("prometheus/rules/*.rules.yaml"), *ROOT.glob("loki/rules/*/*.rules.yaml")]
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    alerts = {rule.get("alert") for group in groups for rule in group["rules"]}
    assert named - alerts == set()


def test_alertmanager_runs_on_it_without_a_warning(
    binary: Callable[[str], Path], tmp_path: Path
) -> None:
    binary("alertmanager")
    with started(tmp_path, str, **_EVERYBODY) as process:
        url, said = listening(process)
        with local_client(url) as client:
            poll_until(lambda: client.get("/-/ready").is_success, "Alertmanager to be ready")
            status = client.get("/api/v2/status").raise_for_status().json()
    assert "receiver: none" in status["config"]["original"]
    assert not any(_EVERYBODY[name] in status["config"]["original"] for name in _SECRET)
    assert status["cluster"]["status"] == "disabled"
    assert [line for line in said if "level=INFO" not in line] == []


def test_alertmanager_refuses_an_unknown_key(binary: Callable[[str], Path], tmp_path: Path) -> None:
    binary("alertmanager")
    with started(tmp_path, lambda text: text.replace("receiver:", "reciever:", 1)) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "reciever" in said
