#!/bin/sh
# What: starts Grafana; whether a login is required follows from PUBLISH_HOST and
# GRAFANA_ADMIN_PASSWORD. GRAFANA_ADMIN_PASSWORD_FILE may name a file that contains the latter.
# Run by: stack/process-compose.yaml and docker-compose.yml, as `sh start.sh PROGRAM FLAGS...`.
# Trap: Grafana treats an empty GF_ variable as unset.
set -eu

if [ -n "${GRAFANA_ADMIN_PASSWORD_FILE:-}" ]; then
  read -r GRAFANA_ADMIN_PASSWORD <"$GRAFANA_ADMIN_PASSWORD_FILE" || :
  export GRAFANA_ADMIN_PASSWORD
fi

if [ -n "${GRAFANA_ADMIN_PASSWORD:-}" ]; then
  # The first start with a password creates the user `admin`; without one there is no user at all.
  : "${GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION:=false}"
  export GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION
fi

# The host name of Grafana's public address.
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
  # Reachable from this machine only: anonymous viewers are allowed.
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
  echo "Grafana requires a login, and GRAFANA_ADMIN_PASSWORD is not set:" \
    "only users created by an earlier start can log in." >&2
fi

# Without a newline at the end of the file, `read` sets the variable and fails.
read -r BACKENDS_PASSWORD <"$SECRETS_DIR/grafana/password" || :
read -r GF_SECURITY_SECRET_KEY <"$SECRETS_DIR/grafana/secret_key" || :
export BACKENDS_PASSWORD GF_SECURITY_SECRET_KEY
exec "$@"
