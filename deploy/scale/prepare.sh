#!/bin/sh
# What: secrets of the scaled stack, and files that contain them or addresses; run once before it.
# Run by: stack/scaled/native.py, and deploy/scale.compose.yaml, after gateway/secrets.sh for both
# tenants: SECRETS_DIR has the secrets of the first one, SECOND_SECRETS_DIR those of the second.
# Trap: in the container BUSYBOX is the only program.
set -eu
umask 077
cd "$SECRETS_DIR"

run() { # PROGRAM ARGUMENTS…
  ${BUSYBOX:-} "$@"
}

# Renamed into place, so that readers always see the whole file.
write() { # FILE, content on standard input
  run mkdir -p "${1%/*}"
  run cat >"$1.new"
  run mv "$1.new" "$1"
}

# Generates 32 random bytes in hex unless FILE exists.
value_in() { # FILE → $value
  [ -s "$1" ] || {
    run head -c 32 /dev/urandom | run od -An -v -tx1 | run tr -d ' \n' | write "$1"
  }
  read -r value <"$1" || :
}

value_in kafka/password
value_in s3/secret_key

write thanos/objstore.yml <<END
type: S3
config:
  bucket: thanos
  endpoint: $S3_ADDRESS
  access_key: chatscope
  secret_key: $value
  region: us-east-1
  insecure: true
  bucket_lookup_type: path
END
write thanos/query.yml <<END
- http_config:
    basic_auth:
      username: prometheus
      password_file: $SECRETS_DIR/prometheus/password
  static_configs: ["$QUERY_ADDRESS"]
END
write thanos/alertmanagers.yml <<END
alertmanagers:
  - http_config:
      basic_auth:
        username: prometheus
        password_file: $SECRETS_DIR/prometheus/password
    static_configs: ["$ALERTMANAGER_ADDRESS"]
END
write thanos/hashring.json <<END
[
  {"hashring": "second", "tenants": ["second"], "endpoints": ["$SECOND_RECEIVE_ENDPOINT"]},
  {"endpoints": $RECEIVE_ENDPOINTS, "algorithm": "ketama"}
]
END

# The tenants share Kafka, and the gateway's own password at Thanos.
write "$SECOND_SECRETS_DIR/kafka/password" <kafka/password
write "$SECOND_SECRETS_DIR/gateway/basic" <gateway/basic

# In containers, each component runs as its own user.
if [ -n "${BUSYBOX:-}" ]; then
  run chown -R 65534:65534 thanos
  run chown -R 10001:10001 kafka s3 "$SECOND_SECRETS_DIR/kafka" "$SECOND_SECRETS_DIR/gateway"
fi
