"""The official images of the compose files, each with the Go module of the same release.

The native stack builds the modules, Docker uses the images: always change both together.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Image:
    """One image; `module` is empty if it is not built here.

    `directory`: the directory of stack/ that pins the module; `binary`: the program built there;
    `entrypoint` and `user`: those of the official image; `licence`: the SPDX identifier of the
    program; `digest`: of the index of all platforms (`sha256:…`), empty if it is not known for
    certain (docs/versions.md).
    """

    part: str
    name: str
    tag: str
    entrypoint: str
    user: str
    licence: str
    digest: str = ""
    directory: str = ""
    module: str = ""
    version: str = ""
    binary: str = ""

    @property
    def tagged(self) -> str:
        """Name and tag."""
        return f"{self.name}:{self.tag}"

    @property
    def reference(self) -> str:
        """The reference for `docker pull`, with the digest if it is known."""
        return f"{self.tagged}@{self.digest}" if self.digest else self.tagged

    @property
    def variable(self) -> str:
        """The variable of docker compose that names another image instead."""
        return f"{self.part.upper()}_IMAGE"


IMAGES = (
    Image(
        "collector",
        "otel/opentelemetry-collector-contrib",
        "0.158.0",
        "/otelcol-contrib",
        "10001",
        "Apache-2.0",
        "sha256:c5918f78992ee73b0d6f0e599423ac5ec52dd5d9726733114d6eca53d5a32ed5",
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
        "Apache-2.0",
        "",
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
        "AGPL-3.0-only",
        "sha256:1107dd5274e0ada47e42472b7a7e71f3b2a2fe878878108f3e2f9e51528f0193",
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
        "AGPL-3.0-only",
        "",
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
        "Apache-2.0",
        "sha256:88b605de9aba0410775c1eb3438f951115054e0d307f23f274a4c705f51630c1",
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
        "Apache-2.0",
        "",
        "gateway",
        "github.com/caddyserver/caddy/v2",
        "v2.11.9",
        "caddy",
    ),
    Image(
        "grafana",
        "grafana/grafana",
        "12.3.0",
        "/run.sh",
        "472",
        "AGPL-3.0-only",
        "sha256:70d9599b186ce287be0d2c5ba9a78acb2e86c1a68c9c41449454d0fc3eeb84e8",
    ),
    # Of the profile `replicas`; its own entry point is not used.
    Image(
        "store",
        "valkey/valkey",
        "9.1.1-alpine",
        "",
        "0",
        "BSD-3-Clause",
        "sha256:ee91f7a174ac4d6a6b0685b3a60e321f0a9dbbb691f9b0e285be2ba1d1be8328",
    ),
    # Copies itself to a volume for the others' health checks.
    Image(
        "init",
        "busybox",
        "1.37.0-musl",
        "",
        "0",
        "GPL-2.0-only",
        "sha256:5cec3fc171c87218698e85a52af7087de727372aae264a787b8112901a5b0092",
    ),
)

# Of deploy/scale.compose.yaml only. Its Collectors have the image above, which contains the
# components of stack/collector-scaled too.
SCALED_IMAGES = (
    Image(
        "thanos",
        "quay.io/thanos/thanos",
        "v0.42.0",
        "/bin/thanos",
        "1001",
        "Apache-2.0",
        "",
        "thanos",
        "github.com/thanos-io/thanos",
        "v0.42.0",
        "thanos",
    ),
    # Its own entry point is not used; natively its libraries are fetched: stack/scaled/kafka.py.
    Image(
        "kafka",
        "apache/kafka",
        "4.1.1",
        "",
        "1000",
        "Apache-2.0",
        "sha256:0bc1bb2478f45b6cea78864df86acdc11e8df2c5172477819a4d12942cbe5d40",
    ),
    Image(
        "s3",
        "versity/versitygw",
        "v1.8.0",
        "/usr/local/bin/versitygw",
        "0",
        "Apache-2.0",
        "sha256:30292fc2eeacc67a36993b01f7a7a5e3361a19cced0e80c1d71cfa2a4b0a2499",
        "versitygw",
        "github.com/versity/versitygw",
        "v1.8.0",
        "versitygw",
    ),
)

# The Dockerfile's base image.
BASE = Image(
    "base",
    "python",
    "3.13.16-slim-trixie",
    "",
    "0",
    "PSF-2.0",
    "sha256:bf44cdfcb76cd3b41e879bc058fc37ec5872002ccfde7fcb765e218cde0cd79c",
)
