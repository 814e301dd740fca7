#!/bin/sh
# What: secrets and files of the scaled stack that contain them or addresses; run once before it.
# Run by: stack/scaled/native.py, and deploy/scale.compose.yaml, after gateway/secrets.sh.
# Trap: in the container BUSYBOX is the only program.
set -eu
umask 077
cd "$SECRETS_DIR"

run() { # PROGRAM ARGUMENTS…
  ${BUSYBOX:-} "$@"
}

# Generates 32 random bytes in hex unless FILE exists.
value_in() { # FILE → $value
  run mkdir -p "${1%/*}"
  [ -s "$1" ] || {
    run head -c 32 /dev/urandom | run od -An -v -tx1 | run tr -d ' \n' >"$1.new"
    run mv "$1.new" "$1"
  }
  read -r value <"$1" || :
}

value_in kafka/password
value_in s3/secret_key
run mkdir -p thanos

run cat >thanos/objstore.yml <<END
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
run cat >thanos/query.yml <<END
- http_config: &own
    basic_auth:
      username: prometheus
      password_file: $SECRETS_DIR/prometheus/password
  static_configs: ["$QUERY_ADDRESS"]
END
run cat >thanos/alertmanagers.yml <<END
alertmanagers:
  - http_config:
      basic_auth:
        username: prometheus
        password_file: $SECRETS_DIR/prometheus/password
    static_configs: ["$ALERTMANAGER_ADDRESS"]
END
run cat >thanos/hashring.json <<END
[{"endpoints": $RECEIVE_ENDPOINTS, "algorithm": "ketama"}]
END

# In containers, each component runs as its own user.
if [ -n "${BUSYBOX:-}" ]; then
  run chown -R 1001:1001 thanos
  run chown -R 1000:1000 kafka
fi
