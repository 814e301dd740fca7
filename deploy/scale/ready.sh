#!/bin/sh
# What: succeeds if a component that requires a password is ready, at PORT of its own container.
# Run by: the health checks of deploy/scale.compose.yaml, as `sh ready.sh PORT`.
# Trap: the password is written to standard input, because every user of the host can read arguments.
set -eu
# Without a newline at the end of the file, `read` sets the variable and fails.
read -r basic <"$SECRETS_DIR/prometheus/basic" || :
busybox=${BUSYBOX:-/probe/busybox}
printf 'GET /-/ready HTTP/1.0\r\nAuthorization: %s\r\n\r\n' "$basic" |
  "$busybox" nc -w 2 127.0.0.1 "$1" | "$busybox" grep -q '^HTTP/1.. 200'
