#!/bin/sh
# What: starts Grafana; who may look at it follows from PUBLISH_HOST and GRAFANA_ADMIN_PASSWORD.
# Run by: stack/process-compose.yaml and docker-compose.yml, as `sh start.sh PROGRAM FLAGS...`.
# Trap: Grafana takes an empty GF_ variable for an unset one.
set -eu

if [ -n "${GRAFANA_ADMIN_PASSWORD:-}" ]; then
  # The first start with a password makes the user `admin`; without one there is no user at all.
  : "${GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION:=false}"
  export GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION
fi

case $PUBLISH_HOST in
  # Only this machine reaches it: everybody there may look.
  127.* | localhost | ::1 | "[::1]") ;;
  *)
    : "${GF_AUTH_ANONYMOUS_ENABLED:=false}"
    export GF_AUTH_ANONYMOUS_ENABLED
    ;;
esac

if [ "${GF_AUTH_ANONYMOUS_ENABLED:-}${GRAFANA_ADMIN_PASSWORD:-}" = false ]; then
  echo "A login is needed, and GRAFANA_ADMIN_PASSWORD is not set:" \
    "only a user whom an earlier start made can log in." >&2
fi

exec "$@"
