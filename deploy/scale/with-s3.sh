#!/bin/sh
# What: executes a program with the key of the object storage in its environment.
# Run by: deploy/scale/process-compose.yaml and deploy/scale.compose.yaml.
set -eu
# Without a newline at the end of the file, `read` sets the variable and fails.
read -r S3_SECRET_KEY <"$SECRETS_DIR/s3/secret_key" || :
export S3_SECRET_KEY ROOT_ACCESS_KEY=chatscope ROOT_SECRET_KEY="$S3_SECRET_KEY"
exec "$@"
