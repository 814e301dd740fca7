#!/bin/sh
# What: starts Grafana; who may look at it follows from PUBLISH_HOST and GRAFANA_ADMIN_PASSWORD.
# GRAFANA_ADMIN_PASSWORD_FILE may name a file with the latter.
# Run by: stack/process-compose.yaml and docker-compose.yml, as `sh start.sh PROGRAM FLAGS...`.
# Trap: Grafana takes an empty GF_ variable for an unset one.
set -eu

if [ -n "${GRAFANA_ADMIN_PASSWORD_FILE:-}" ]; then
  read -r GRAFANA_ADMIN_PASSWORD <"$GRAFANA_ADMIN_PASSWORD_FILE" || :
  export GRAFANA_ADMIN_PASSWORD
fi

if [ -n "${GRAFANA_ADMIN_PASSWORD:-}" ]; then
  # The first start with a password makes the user `admin`; without one there is no user at all.
  : "${GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION:=false}"
  export GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION
fi

# Where people reach it: the name alone.
domain=${GRAFANA_PUBLIC_URL#*://}
domain=${domain%%/*}
case $domain in
  "["*) domain=${domain%%"]"*}"]" ;;
  *) domain=${domain%%:*} ;;
esac
: "${GF_SERVER_DOMAIN:=$domain}"
case $GRAFANA_PUBLIC_URL in
  https://*) : "${GF_SECURITY_COOKIE_SECURE:=true}" ;;
  *) : "${GF_SECURITY_COOKIE_SECURE:=false}" ;;
esac
export GF_SERVER_DOMAIN GF_SECURITY_COOKIE_SECURE

case $PUBLISH_HOST in
  # Only this machine reaches it: everybody there may look.
  127.* | localhost | ::1 | "[::1]")
    : "${GF_SERVER_ENFORCE_DOMAIN:=true}"
    export GF_SERVER_ENFORCE_DOMAIN
    ;;
  *)
    : "${GF_AUTH_ANONYMOUS_ENABLED:=false}"
    export GF_AUTH_ANONYMOUS_ENABLED
    ;;
esac

if [ "${GF_AUTH_ANONYMOUS_ENABLED:-}${GRAFANA_ADMIN_PASSWORD:-}" = false ]; then
  echo "A login is needed, and GRAFANA_ADMIN_PASSWORD is not set:" \
    "only a user whom an earlier start made can log in." >&2
fi

# Without a newline at its end, `read` gives it and fails.
read -r BACKENDS_PASSWORD <"$SECRETS_DIR/grafana/password" || :
read -r GF_SECURITY_SECRET_KEY <"$SECRETS_DIR/grafana/secret_key" || :
export BACKENDS_PASSWORD GF_SECURITY_SECRET_KEY
exec "$@"
