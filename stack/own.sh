#!/bin/sh
# What: starts a component with the variables that the user has set for it; no other component gets
# them.
# Run by: stack/process-compose.yaml, as `sh own.sh COMPONENT PROGRAM ARGUMENTS…`.
# Trap: variables that the component already has, such as its address, have priority: stack/own.py.
set -eu
own=$RUN_DIR/own/$1
shift
. "$own"
exec "$@"
