#!/bin/sh
# What: starts Alertmanager with the receivers that are set in the environment: writes
# alertmanager.yml with their values into RUN_DIR.
# Run by: stack/process-compose.yaml and docker-compose.yml, as `sh start.sh PROGRAM FLAGS…`.
# Trap: the container has a shell and no other program, so only shell builtins can be used.
set -eu
# The written secrets are readable by Alertmanager only.
umask 077

here=$(cd "${0%/*}" && pwd)
newline='
'
wrong=

refuse() { # NAME, what is accepted; the value itself may be a secret
  wrong="$wrong$1 is not accepted: it must be $2$newline"
}

value_of() { # NAME → $value
  case $1 in
    [A-Z]*) eval "value=\${$1:-}" ;;
  esac
}

# One line, and no Alertmanager template.
text() { # NAME…
  for name; do
    value_of "$name"
    case $value in
      *[[:cntrl:]]*) refuse "$name" "one line, without control characters" ;;
      *"{{"*) refuse "$name" "a text without {{" ;;
    esac
  done
}

url() { # NAME…
  for name; do
    value_of "$name"
    case $value in
      *[[:space:][:cntrl:]]* | *"{{"*) refuse "$name" "a URL without blanks and {{" ;;
      "" | http://[!/]* | https://[!/]*) ;;
      *) refuse "$name" "a URL such as https://example.com/alerts" ;;
    esac
  done
}

duration() { # NAME…
  for name; do
    value_of "$name"
    number=${value%[smh]}
    case $number in
      "" | "$value" | 0* | *[!0-9]*) refuse "$name" "a whole number and s, m or h, such as 15s" ;;
    esac
  done
}

needs() { # NAME, and the variables that must be set with it
  value_of "$1"
  [ -n "$value" ] || return 0
  first=$1
  shift
  for name; do
    value_of "$name"
    [ -n "$value" ] || refuse "$name" "set, since $first is"
  done
}

quoted() { # TEXT → $quoted, the same as a YAML scalar
  rest=$1
  quoted=
  while :; do
    case $rest in
      *"'"*) quoted="$quoted${rest%%"'"*}''" rest=${rest#*"'"} ;;
      *) break ;;
    esac
  done
  quoted="'$quoted$rest'"
}

# A secret may be in a file: NAME_FILE instead of NAME.
for name in ALERT_WEBHOOK_URL ALERT_SLACK_URL ALERT_SMTP_PASSWORD ALERT_PAGERDUTY_KEY ALERT_WATCHDOG_URL; do
  value_of "${name}_FILE"
  [ -z "$value" ] || read -r "$name" <"$value" || :
done

: "${ALERT_PAGERDUTY_URL:=https://events.pagerduty.com/v2/enqueue}"
: "${ALERT_SMTP_REQUIRE_TLS:=true}"
: "${ALERT_GROUP_WAIT:=15s}"
: "${ALERT_GROUP_INTERVAL:=1m}"
TEMPLATES=$here/*.tmpl

url ALERT_WEBHOOK_URL ALERT_SLACK_URL ALERT_WATCHDOG_URL ALERT_PAGERDUTY_URL GRAFANA_PUBLIC_URL
text ALERT_SLACK_CHANNEL ALERT_EMAIL_TO ALERT_EMAIL_FROM ALERT_SMTP_HOST ALERT_SMTP_USER
text ALERT_SMTP_PASSWORD ALERT_PAGERDUTY_KEY
needs ALERT_EMAIL_TO ALERT_EMAIL_FROM ALERT_SMTP_HOST
needs ALERT_SMTP_PASSWORD ALERT_SMTP_USER
case ${ALERT_SMTP_HOST:-} in
  "" | ?*:[0-9]*) ;;
  *) refuse ALERT_SMTP_HOST "host:port" ;;
esac
case $ALERT_SMTP_REQUIRE_TLS in
  true | false) ;;
  *) refuse ALERT_SMTP_REQUIRE_TLS "true or false" ;;
esac
duration ALERT_GROUP_WAIT ALERT_GROUP_INTERVAL
if [ -n "$wrong" ]; then
  printf '%s' "$wrong" >&2
  exit 2
fi

skip=
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    *"  # with "*)
      value_of "${line##*  # with }"
      skip=
      [ -n "$value" ] || skip=yes
      ;;
    "      "*) ;;
    *) skip= ;;
  esac
  name=${line##*"{"}
  name=${name%"}"}
  case $line in
    *"_file: \${"*"}")
      value_of "$name"
      # Also when it is skipped: a secret of an earlier run must not remain.
      printf '%s' "$value" >"$RUN_DIR/$name"
      value=$RUN_DIR/$name
      ;;
    *" \${"*"}") value_of "$name" ;;
    *) name= ;;
  esac
  [ -z "$skip" ] || continue
  case $name in
    "") printf '%s\n' "$line" ;;
    *)
      case $value in
        # In quotes it would be a string.
        true | false) quoted=$value ;;
        *) quoted "$value" ;;
      esac
      printf '%s\n' "${line%%"\${"*}$quoted"
      ;;
  esac
done <"$here/alertmanager.yml" >"$RUN_DIR/alertmanager.yml" || exit 1

# Only Grafana is reachable from elsewhere: links in messages lead there.
exec "$@" --config.file="$RUN_DIR/alertmanager.yml" \
  --web.external-url="$GRAFANA_PUBLIC_URL" --web.route-prefix=/
