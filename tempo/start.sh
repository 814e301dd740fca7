#!/bin/sh
# What: starts Tempo in SOCKETS_DIR, after repairing what a kill may have left in its WAL.
# Run by: stack/process-compose.yaml and docker-compose.yml, as `sh start.sh PROGRAM FLAGS…`.
# Trap: in the container BUSYBOX is the only program.
#
# At each flush Tempo truncates the meta.json of its open block and writes it again. If it is killed
# in between, it would discard the whole block at its next start, including spans that it has
# acknowledged. It only needs the block's identity and time range from that file.
set -eu

date_of() { # seconds
  ${BUSYBOX:-} date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ
}

now=$(${BUSYBOX:-} date +%s)
# Spans may have been queued for as long as tempo.yaml accepts late ones.
since=$(date_of $((now - 86400)))
until=$(date_of "$now")

repair() { # additional JSON members, BLOCKS…
  additional=$1
  shift
  for block; do
    # Without a flushed page there is nothing to save. Without meta.json the block was being
    # removed: it has already been stored elsewhere.
    [ -s "$block/0000000001" ] && [ -e "$block/meta.json" ] || continue
    read -r meta <"$block/meta.json" || :
    case $meta in
      "{"*"}") continue ;;
    esac
    # ID+tenant+format
    name=${block##*/}
    tenant=${name#*+}
    tenant=${tenant%+*}
    printf '{"format":"%s","blockID":"%s","tenantID":"%s","startTime":"%s","endTime":"%s"%s}' \
      "${name##*+}" "${name%%+*}" "$tenant" "$since" "$until" "$additional" >"$block/meta.json"
    echo "Repaired meta.json of the block $name, which a kill had left incomplete." >&2
  done
}

repair "" "$DATA_DIR"/tempo/wal/*+*
# TraceQL metrics only read blocks with a replication factor of 1.
repair ',"replicationFactor":1' "$DATA_DIR"/tempo/generator/traces/*/*+*

# Access to the sockets is full access.
umask 077
cd "$SOCKETS_DIR"
# A killed process leaves its sockets, and Tempo could not listen there again.
${BUSYBOX:-} rm -f "tempo.sock:$TEMPO_PORT" tempo-otlp.sock
exec "$@"
