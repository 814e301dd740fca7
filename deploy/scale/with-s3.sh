#!/bin/sh
# What: executes a program with the key of the object storage in its environment and, if STACK_HOST
# is empty, the container's address.
# Run by: deploy/scale/process-compose.yaml and deploy/scale.compose.yaml.
set -eu
# Without a newline at the end of the file, `read` sets the variable and fails.
read -r S3_SECRET_KEY <"$SECRETS_DIR/s3/secret_key" || :
# Gossip accepts no names. A container knows its address only when it runs.
if [ -z "${STACK_HOST-unset}" ]; then
  STACK_HOST=$(${BUSYBOX:-} hostname -i)
  # The first one, should there be several networks.
  export STACK_HOST="${STACK_HOST%% *}"
fi
export S3_SECRET_KEY ROOT_ACCESS_KEY=chatscope ROOT_SECRET_KEY="$S3_SECRET_KEY"
exec "$@"
