#!/bin/sh
# What: generates the stack's own secrets, once, and distributes them to the components.
# Run by: stack/native.py before the components start, and docker-compose.yml, as the service
# `secrets`.
# Trap: in the container BUSYBOX and CADDY are the only programs.
#
# SECRETS_DIR contains a directory for each component. A password is never replaced: remove
# SECRETS_DIR (or the volumes) to get new ones. Servers get hashes only.
set -eu
umask 077
cd "$SECRETS_DIR"

run() { # PROGRAM ARGUMENTS…
  ${BUSYBOX:-} "$@"
}

# Renamed into place, so that readers always see the whole file. No newline: the Collector would
# send it.
write() { # FILE, TEXT
  printf '%s' "$2" >"$1.new"
  run mv "$1.new" "$1"
}

random() {
  run head -c 32 /dev/urandom | run od -An -v -tx1 | run tr -d ' \n'
}

# Generates 32 random bytes in hex unless FILE exists.
value_in() { # FILE → $value
  run mkdir -p "${1%/*}"
  [ -s "$1" ] || write "$1" "$(random)"
  read -r value <"$1" || :
}

# Each client of a backend has its own password; `operator` is for the operator of the stack.
for user in alertmanager collector gateway grafana loki operator prometheus; do
  value_in "$user/password"
  # The passwords are random: a higher cost would only delay each first request.
  [ -s "$user/hash" ] ||
    write "$user/hash" "$(printf '%s' "$value" | "$CADDY" hash-password --algorithm bcrypt --bcrypt-cost 8)"
  write "$user/basic" "Basic $(printf '%s' "$user:$value" | run base64 | run tr -d '\n')"
done

hash_of() { # USER → $value
  read -r value <"$1/hash" || :
}

web() { # SERVER, USERS…
  server=$1
  shift
  users="basic_auth_users:"
  for user; do
    hash_of "$user"
    users="$users
  $user: $value"
  done
  run mkdir -p "$server"
  write "$server/web.yml" "$users"
}

web prometheus collector gateway loki operator prometheus
web alertmanager alertmanager gateway loki operator prometheus

users=
for user in collector grafana operator prometheus; do
  hash_of "$user"
  users="$users$user $value
"
done
write gateway/users "$users"

# Token with which services send telemetry: the Collector checks it, the others send it.
value_in operator/token
token=$value
run mkdir -p app demo
write collector/token "$token"
write collector/bearer "Bearer $token"
# Token with which scrapers read the services' metrics from the Collector.
value_in operator/metrics_token
write collector/metrics_token "$value"
for sender in app demo operator; do
  write "$sender/otlp_headers" "authorization=Bearer $token"
done

# Password of the store that replicas of the service share (docs/scaling.md).
value_in store/password
write store/password.conf "requirepass $value
"
write app/store_url "redis://:$value@store:6379"

# Grafana encrypts stored datasource credentials with it.
value_in grafana/secret_key

# In containers, each component runs as its own user.
if [ -n "${BUSYBOX:-}" ]; then
  run chown -R 65534:65534 prometheus alertmanager
  run chown -R 472:472 grafana
  run chown -R 10001:10001 app collector demo gateway loki store
fi
