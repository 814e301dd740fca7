"""The scaled stack as native processes: what one machine has too keeps its name and its port."""

import json
import shutil
from pathlib import Path

import yaml

from stack import facts, secrets, supervisor
from stack.native import NativeStack
from stack.parts import Part
from stack.scaled import configs, kafka

_BUCKETS = ("loki", "tempo", "thanos")
_PARTS = (
    Part(
        "agent-2",
        "AGENT2_URL",
        ("AGENT2_OTLP_GRPC_PORT", "AGENT2_OTLP_HTTP_PORT", "AGENT2_METRICS_PORT"),
        "http://{STACK_HOST}:{AGENT2_HEALTH_PORT}/",
    ),
    *(
        Part(
            f"{kind}-{number}",
            f"{name}_URL",
            (f"{name}_METRICS_PORT", f"{name}_HEALTH_PORT"),
            f"http://{{STACK_HOST}}:{{{name}_HEALTH_PORT}}/",
        )
        for kind in ("gateway", "writer")
        for number in (1, 2)
        if (name := f"{kind.upper()}{number}")
    ),
)


class ScaledStack(NativeStack):
    """Two agents, two gateways, Kafka, two writers, and backends on object storage."""

    kind = "natively, scaled"
    # The longest chain of processes that stop one after another.
    stop_timeout_s = 150.0
    more_programs = ("otelcol-scaled", "thanos", "versitygw")
    more_parts = _PARTS
    # Of the same job as the agent.
    more_collectors = (
        "AGENT2_METRICS_PORT",
        "GATEWAY1_METRICS_PORT",
        "GATEWAY2_METRICS_PORT",
        "WRITER1_METRICS_PORT",
        "WRITER2_METRICS_PORT",
        "SECOND_AGENT_METRICS_PORT",
        "SECOND_GATEWAY_METRICS_PORT",
        "SECOND_WRITER_METRICS_PORT",
    )

    thanos = (
        "RECEIVE1_HTTP_PORT",
        "RECEIVE2_HTTP_PORT",
        "SECOND_RECEIVE_HTTP_PORT",
        "RULE_HTTP_PORT",
        "STOREGATEWAY_HTTP_PORT",
        "COMPACT_HTTP_PORT",
    )

    @property
    def listeners(self) -> tuple[Part, ...]:
        """The components, and all other ports."""
        named = {port for part in self.parts for port in part.ports}
        others = tuple(port for port in facts.ports(self.facts) if port not in named)
        # Without Grafana its port may be in use.
        others = tuple(port for port in others if port != "GRAFANA_PORT")
        return (*self.parts, Part("the scaled stack", "", others, "", listen="STACK_HOST"))

    def configuration(self) -> Path:
        """Return the configuration of one machine with the processes of deploy/scale."""
        # process-compose would append the lists of two configurations.
        merged = yaml.safe_load(supervisor.CONFIGURATION.read_text())
        scaled = yaml.safe_load((configs.TARGET / "process-compose.yaml").read_text())
        for name, process in scaled["processes"].items():
            merged["processes"][name] = {**merged["processes"].get(name, {}), **process}
            merged["processes"][name]["log_configuration"] = merged["log_configuration"]
        path = self.run_dir / "process-compose.yaml"
        path.write_text(yaml.safe_dump(merged))
        return path

    def environment(self) -> dict[str, str]:
        """Return the environment of both configurations of process-compose."""
        host = self.facts["STACK_HOST"]

        def address(port: str) -> str:
            return f"{host}:{self.facts[port]}"

        gateways = [address(f"GATEWAY{number}_OTLP_PORT") for number in (1, 2)]
        everything = self.facts["TRACES_KEPT_PERCENT"] == "100"
        overlay = "gateway" if everything else "sampling"
        return {
            **super().environment(),
            "GATEWAY_RESOLVER": _resolver(gateways),
            "GATEWAY_OVERLAY": str(configs.TARGET / f"{overlay}.collector.yaml"),
            "KAFKA_BROKER": address("KAFKA_PORT"),
            "KAFKA_LIBS": str(kafka.directory()),
            "S3_ADDRESS": address("S3_PORT"),
            "LOKI_BACKEND": address("LOKI_GRPC_PORT"),
            "LOKI_GOSSIP": address("LOKI_GOSSIP_PORT"),
            "LOKI_WRITE_GOSSIP": address("LOKI_WRITE_GOSSIP_PORT"),
            "GOSSIP_HOST": host,
            "LOKI_RULES_DIR": str(self.run_dir / "loki-rules"),
            "SECOND_SECRETS_DIR": str(self._second_secrets()),
            "SECOND_GATEWAY_RESOLVER": _resolver([address("SECOND_GATEWAY_OTLP_PORT")]),
            "METRICS_WRITE_URL": self._metrics_write_url(),
        }

    def prepare(self) -> None:
        """Create the directories and files that the components expect."""
        kafka.fetch()
        super().prepare()
        for bucket in _BUCKETS:
            (Path(self.facts["DATA_DIR"]) / "s3" / bucket).mkdir(parents=True, exist_ok=True)
        for name in ("object-metadata", "loki-write"):
            (Path(self.facts["DATA_DIR"]) / name).mkdir(parents=True, exist_ok=True)
        rules = self.run_dir / "loki-rules"
        rules.mkdir(exist_ok=True)
        link = rules / self.facts["TENANT"]
        link.unlink(missing_ok=True)
        # The name of the tenant of one machine, where authentication is off.
        link.symlink_to(Path(self.facts["RULES_DIR"]) / "loki" / "rules" / "fake")
        self._render_scraper()

    def make_secrets(self) -> None:
        """Create the secrets of one machine, and those of the additional components."""
        super().make_secrets()
        second = self._second_secrets()
        secrets.make({**self.facts, "SECRETS_DIR": str(second)})
        environ = self.environment()
        host = self.facts["STACK_HOST"]
        receivers = [f"{host}:{self.facts[f'RECEIVE{number}_GRPC_PORT']}" for number in (1, 2)]
        secrets.run(
            configs.TARGET / "prepare.sh",
            {
                "SECRETS_DIR": self.facts["SECRETS_DIR"],
                "SECOND_SECRETS_DIR": str(second),
                "S3_ADDRESS": environ["S3_ADDRESS"],
                "QUERY_ADDRESS": f"{host}:{self.facts['PROMETHEUS_PORT']}",
                "ALERTMANAGER_ADDRESS": f"{host}:{self.facts['ALERTMANAGER_PORT']}",
                "RECEIVE_ENDPOINTS": json.dumps(receivers),
                "SECOND_RECEIVE_ENDPOINT": f"{host}:{self.facts['SECOND_RECEIVE_GRPC_PORT']}",
            },
        )

    def _second_secrets(self) -> Path:
        return self.run_dir / "second-secrets"

    def _render_scraper(self) -> None:
        """Create the directory of the Prometheus that scrapes, with its own address of Thanos."""
        directory = self.run_dir / "scraper"
        directory.mkdir(exist_ok=True)
        text = configs.text("prometheus.yml")
        (directory / "prometheus.yml").write_text(
            text.replace(configs.METRICS_WRITE_URL, self._metrics_write_url())
        )
        shutil.copytree(
            self.run_dir / "prometheus" / "targets", directory / "targets", dirs_exist_ok=True
        )

    def _targets(self) -> list[dict[str, object]]:
        host = self.facts["STACK_HOST"]
        return [
            *super()._targets(),
            {
                "targets": [f"{host}:{self.facts[port]}" for port in self.more_collectors],
                "labels": {"job": "collector"},
            },
            {
                "targets": [f"{host}:{self.facts[port]}" for port in self.thanos],
                # Most of its metrics have the names of Prometheus.
                "labels": {"job": "prometheus"},
            },
            {
                "targets": [f"{host}:{self.facts['LOKI_PORT']}"],
                # The gateway has both processes at the same address.
                "labels": {
                    "job": "loki",
                    "instance": f"{host}:{self.facts['LOKI_WRITE_PORT']}",
                    "__metrics_path__": "/write/metrics",
                },
            },
        ]

    def _metrics_write_url(self) -> str:
        return f"http://{self.facts['STACK_HOST']}:{self.facts['RECEIVE1_PORT']}/api/v1/receive"


def _resolver(gateways: list[str]) -> str:
    # Without spaces: it becomes a part of a line of YAML.
    return json.dumps({"static": {"hostnames": gateways}}, separators=(",", ":"))
