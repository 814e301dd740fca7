{{- define "chatscope.selector" -}}
app.kubernetes.io/name: chatscope
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "chatscope.labels" -}}
{{ include "chatscope.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The variables of the container, except secrets and files. */}}
{{- define "chatscope.env" -}}
{{- range $name, $_ := .Values.env }}
{{- if regexMatch "(_API_KEY|^SHARED_STORE_URL|^CHATSCOPE_USER_ID_KEY|^OTEL_EXPORTER_OTLP_(\\w+_)?HEADERS)$" $name }}
{{- fail (printf "env.%s is a secret: give the name of a Secret in secrets.%s" $name $name) }}
{{- end }}
{{- end }}
{{- $service := printf "%s.%s" .Release.Name .Release.Namespace }}
{{- $hosts := list .Release.Name $service (printf "%s.svc" $service) }}
{{- with .Values.env.ALLOWED_HOSTS }}
{{- $hosts = append $hosts . }}
{{- end }}
{{- $own := dict "ALLOWED_HOSTS" (join "," $hosts) }}
{{- $defaults := dict "HOST" "0.0.0.0" "PORT" 3000 "TELEMETRY_SPOOL_DIR" "/data/spool" }}
{{- $files := dict }}
{{- range $name, $_ := .Values.files }}
{{- $_ := set $files $name (printf "/etc/chatscope/%s" $name) }}
{{- end }}
{{- merge $own $files .Values.env $defaults | toJson }}
{{- end }}

{{/* A variable's value: as text, and a large number without an exponent. */}}
{{- define "chatscope.text" -}}
{{- kindIs "string" . | ternary . (toJson .) | toJson }}
{{- end }}
