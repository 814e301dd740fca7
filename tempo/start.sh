#!/bin/sh
# What: starts Tempo in SOCKETS_DIR, after it has mended what a kill may have left of Tempo's log.
# Run by: stack/process-compose.yaml and docker-compose.yml, as `sh start.sh PROGRAM FLAGS…`.
# Trap: in the container there is no other program than BUSYBOX.
#
# At each flush Tempo empties the meta.json of its open block and writes it anew. Killed in between
# it would throw the whole block away at its start, spans that it has long said it has. All that it
# needs of that file is which block it is, and of what time.
set -eu

date_of() { # seconds
  ${BUSYBOX:-} date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ
}

now=$(${BUSYBOX:-} date +%s)
# Spans may have waited for as long as tempo.yaml takes late ones.
since=$(date_of $((now - 86400)))
until=$(date_of "$now")

mend() { # what its blocks have besides, BLOCKS…
  besides=$1
  shift
  for block; do
    # Without a page that was flushed there is nothing to save. Without the file the block was being
    # removed: it is elsewhere by then.
    [ -s "$block/0000000001" ] && [ -e "$block/meta.json" ] || continue
    read -r meta <"$block/meta.json" || :
    case $meta in
      "{"*"}") continue ;;
    esac
    name=${block##*/}
    printf '{"format":"%s","blockID":"%s","tenantID":"single-tenant","startTime":"%s","endTime":"%s"%s}' \
      "${name##*+}" "${name%%+*}" "$since" "$until" "$besides" >"$block/meta.json"
    echo "A kill had left $name half-written: mended." >&2
  done
}

mend "" "$DATA_DIR"/tempo/wal/*+*
# TraceQL metrics read only what is there once.
mend ',"replicationFactor":1' "$DATA_DIR"/tempo/generator/traces/single-tenant/*+*

# Whoever may open its sockets may do all.
umask 077
cd "$SOCKETS_DIR"
# Of a killed one: nobody could listen there again.
${BUSYBOX:-} rm -f "tempo.sock:$TEMPO_PORT" tempo-otlp.sock
exec "$@"
