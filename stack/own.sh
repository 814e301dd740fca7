#!/bin/sh
# What: starts a part with the variables that a person has set for it, which no other part gets.
# Run by: stack/process-compose.yaml, as `sh own.sh PART PROGRAM ARGUMENTS…`.
# Trap: what the part has already, such as its address, wins: stack/own.py writes it so.
set -eu
own=$RUN_DIR/own/$1
shift
. "$own"
exec "$@"
