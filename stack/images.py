"""The official images of docker-compose.yml, each with the Go module of the same release.

The native stack builds the modules, Docker uses the images: always change both together.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Image:
    """One image; `module` is empty if it is not built here.

    `directory`: the directory of stack/ that pins the module; `binary`: the program built there;
    `entrypoint` and `user`: those of the official image.
    """

    part: str
    name: str
    tag: str
    entrypoint: str
    user: str
    directory: str = ""
    module: str = ""
    version: str = ""
    binary: str = ""

    @property
    def reference(self) -> str:
        """The reference for `docker pull`."""
        return f"{self.name}:{self.tag}"


IMAGES = (
    Image(
        "collector",
        "otel/opentelemetry-collector-contrib",
        "0.158.0",
        "/otelcol-contrib",
        "10001",
        "collector",
        # Of the same release as all components of its distribution.
        "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/hostmetricsreceiver",
        "v0.158.0",
        "otelcol",
    ),
    Image(
        "prometheus",
        "prom/prometheus",
        "v3.16.0",
        "/bin/prometheus",
        # `nobody` of the image.
        "65534",
        "prometheus",
        "github.com/prometheus/prometheus",
        # The Go module version of 3.16.0 is 0.316.0.
        "v0.316.0",
        "prometheus",
    ),
    Image(
        "loki",
        "grafana/loki",
        "3.7.8",
        "/usr/bin/loki",
        "10001",
        "loki",
        "github.com/grafana/loki/v3",
        "v3.7.8",
        "loki",
    ),
    Image(
        "tempo",
        "grafana/tempo",
        "2.8.0",
        "/tempo",
        "10001",
        "tempo",
        "github.com/grafana/tempo",
        # Its release tags are not accepted by Go; this is the commit of 2.8.0.
        "v1.5.1-0.20250529124718-87c2dc380cec",
        "tempo",
    ),
    Image(
        "alertmanager",
        "prom/alertmanager",
        "v0.31.1",
        "/bin/alertmanager",
        "65534",
        "alertmanager",
        "github.com/prometheus/alertmanager",
        "v0.31.1",
        "alertmanager",
    ),
    Image(
        "gateway",
        "caddy",
        "2.11.9",
        "/usr/bin/caddy",
        "0",
        "gateway",
        "github.com/caddyserver/caddy/v2",
        "v2.11.9",
        "caddy",
    ),
    Image("grafana", "grafana/grafana", "12.3.0", "/run.sh", "472"),
    # Copies itself to a volume for the others' health checks.
    Image("init", "busybox", "1.37.0-musl", "", "0"),
)

# The Dockerfile's base image.
BASE = Image("app", "python", "3.13.16-slim-trixie", "", "0")
