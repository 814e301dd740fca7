#!/bin/sh
# What: starts Loki in SOCKETS_DIR, with its password for Alertmanager in its environment.
# Run by: stack/process-compose.yaml and docker-compose.yml, as `sh start.sh PROGRAM FLAGS…`.
# Trap: in the container BUSYBOX is the only program.
set -eu
# Access to the socket is full access.
umask 077
cd "$SOCKETS_DIR"
# A killed process leaves its socket, and Loki could not listen there again.
${BUSYBOX:-} rm -f "loki.sock:$LOKI_PORT"
# Without a newline at the end of the file, `read` sets the variable and fails.
read -r LOKI_PASSWORD <"$SECRETS_DIR/loki/password" || :
export LOKI_PASSWORD
exec "$@"
