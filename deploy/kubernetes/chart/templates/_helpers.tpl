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

{{/* Loki's configuration: TCP instead of sockets; scaled, your object storage and three copies. */}}
{{- define "chatscope.loki" -}}
{{- $file := .Values.stack.scaled | ternary "files/scaled.loki.yaml" "files/loki.yaml" }}
{{- $text := .Files.Get $file | replace ": unix" ": tcp" | replace ": loki.sock" ": 0.0.0.0" }}
{{- if .Values.stack.scaled }}
{{- $s3 := .Values.stack.objectStorage }}
{{- $text = $text | replace "http://${S3_ADDRESS}" (printf "%s://%s" ($s3.insecure | ternary "http" "https") (required "stack.objectStorage.endpoint" $s3.endpoint)) }}
{{- $text = $text | replace "bucketnames: loki" (printf "bucketnames: %s" $s3.buckets.loki) }}
{{- $text = $text | replace "region: us-east-1" (printf "region: %s" $s3.region) }}
{{- $text = $text | replace "access_key_id: chatscope" "access_key_id: ${S3_ACCESS_KEY}" }}
{{- $text = $text | replace "insecure: true" (printf "insecure: %t" $s3.insecure) }}
{{- $text = $text | replace "replication_factor: 1" "replication_factor: 3" }}
{{- end }}
{{- $text }}
{{- end }}

{{/* Tempo's configuration, likewise. */}}
{{- define "chatscope.tempo" -}}
{{- $file := .Values.stack.scaled | ternary "files/scaled.tempo.yaml" "files/tempo.yaml" }}
{{- $text := .Files.Get $file | replace ": unix" ": tcp" | replace ": tempo.sock" ": 0.0.0.0" | replace ": tempo-otlp.sock" ": 0.0.0.0:4317" }}
{{- if .Values.stack.scaled }}
{{- $s3 := .Values.stack.objectStorage }}
{{- $text = $text | replace "endpoint: ${S3_ADDRESS}" (printf "endpoint: %s" (required "stack.objectStorage.endpoint" $s3.endpoint)) }}
{{- $text = $text | replace "bucket: tempo" (printf "bucket: %s\n      region: %s" $s3.buckets.tempo $s3.region) }}
{{- $text = $text | replace "access_key: chatscope" "access_key: ${S3_ACCESS_KEY}" }}
{{- $text = $text | replace "\n      insecure: true" (printf "\n      insecure: %t" $s3.insecure) }}
{{- $text = $text | replace "\ningester:\n  lifecycler:\n" "\ningester:\n  lifecycler:\n    ring:\n      replication_factor: 3\n" }}
{{- end }}
{{- $text }}
{{- end }}
