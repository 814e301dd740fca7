#!/bin/sh
# What: starts Loki in SOCKETS_DIR, with its password for Alertmanager in its environment.
# Run by: stack/process-compose.yaml and docker-compose.yml, as `sh start.sh PROGRAM FLAGS…`.
# Trap: in the container there is no other program than BUSYBOX.
set -eu
# Whoever may open its socket may do all.
umask 077
cd "$SOCKETS_DIR"
# Of a killed one: nobody could listen there again.
${BUSYBOX:-} rm -f "loki.sock:$LOKI_PORT"
# Without a newline at its end, `read` gives it and fails.
read -r LOKI_PASSWORD <"$SECRETS_DIR/loki/password" || :
export LOKI_PASSWORD
exec "$@"
