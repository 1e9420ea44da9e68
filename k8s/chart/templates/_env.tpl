{{/* The environment of the app's container. It is part of the pod: a change of it replaces the pods, and undoing a rollout undoes it. */}}

{{/* What the chart sets, as NAME: { value } or NAME: { valueFrom }. */}}
{{- define "koa-bosun.ownEnv" -}}
{{- $values := .Values }}
{{- with $values.app.module }}
APP_MODULE: { value: {{ . | quote }} }
{{- end }}
PORT: { value: {{ int $values.app.port | quote }} }
NODE_CLUSTER_WORKERS:
  {{- include "koa-bosun.workers" . | nindent 2 }}
SHUTDOWN_DELAY_MS: { value: {{ mul 1000 (int $values.shutdown.delaySeconds) | quote }} }
SHUTDOWN_TIMEOUT_MS: { value: {{ mul 1000 (int $values.shutdown.timeoutSeconds) | quote }} }
TERMINATION_GRACE_PERIOD_SECONDS: { value: {{ include "koa-bosun.graceSeconds" . | quote }} }
{{- if kindIs "invalid" $values.trustProxy | ternary (or $values.ingress.enabled $values.httpRoute.enabled) $values.trustProxy }}
TRUST_PROXY: { value: "true" }
{{- end }}
{{- if has $values.ipFamily (list "IPv6" "DualStack") }}
HOST: { value: "::" }
ADMIN_HOST: { value: "::" }
{{- end }}
SERVICE_NAME:
  {{- if $values.sessions.prefix }}
  value: {{ $values.sessions.prefix | quote }}
  {{- else if or (eq .Release.Name "none") (ne (include "koa-bosun.name" .) "koa-bosun") }}
  value: {{ include "koa-bosun.fullname" . | quote }} # none is no name for the kit, and a release can have several charts of this kind
  {{- else }}
  valueFrom: { fieldRef: { apiVersion: v1, fieldPath: "metadata.labels['app.kubernetes.io/instance']" } }
  {{- end }}
{{- $isOwnGroup := and (eq $values.redis.mode "sentinel") (ne (include "koa-bosun.ownRedis" .) "") }}
{{- with kindIs "invalid" $values.sessions.waitReplicas | ternary (ternary 1 0 $isOwnGroup) $values.sessions.waitReplicas }}
SESSION_WAIT_REPLICAS: { value: {{ . | int | quote }} }
{{- end }}
{{- with $values.sessions.keysSecret }}
SESSION_KEYS: { valueFrom: { secretKeyRef: { name: {{ . | quote }}, key: keys } } }
{{- end }}
{{- with $values.admin.tokenSecret }}
ADMIN_TOKEN: { valueFrom: { secretKeyRef: { name: {{ . | quote }}, key: token } } }
{{- end }}
{{- include "koa-bosun.redisEnv" . }}
{{- end }}

{{/* By the downward API where it can: it follows a request that something changes after the chart, such as a vertical autoscaler. */}}
{{- define "koa-bosun.workers" -}}
{{- if eq (toString .Values.workers) "fromRequest" }}
{{- if dig "requests" "cpu" "" .Values.resources }}
valueFrom: { resourceFieldRef: { containerName: app, resource: requests.cpu, divisor: "1" } }
{{- else }}
{{- $cpu := dig "requests" "cpu" "" .Values.podResources | toString }}
{{- if not $cpu }}{{ fail "workers: fromRequest needs resources.requests.cpu or podResources.requests.cpu" }}{{ end }}
value: {{ ternary (divf (float64 (trimSuffix "m" $cpu)) 1000) (float64 $cpu) (hasSuffix "m" $cpu) | ceil | int | quote }}
{{- end }}
{{- else }}
value: {{ toString .Values.workers | quote }}
{{- end }}
{{- end }}

{{- define "koa-bosun.redisEnv" -}}
{{- $redis := .Values.redis }}
{{- $own := include "koa-bosun.ownRedis" . }}
{{- if eq $redis.mode "bundled" }}
REDIS_URL: { value: "redis://{{ include "koa-bosun.sideName" (dict "root" . "side" "redis") }}:6379" }
{{- else if eq $redis.mode "external" }}
{{- if $redis.url }}
REDIS_URL: { value: {{ $redis.url | quote }} }
{{- else }}
REDIS_URL: { valueFrom: { secretKeyRef: { name: {{ required "redis.mode: external needs redis.url or redis.existingSecret" $redis.existingSecret | quote }}, key: url } } }
{{- end }}
{{- else if eq $redis.mode "sentinel" }}
{{- if $own }}
{{- $name := include "koa-bosun.sideName" (dict "root" . "side" $own) }}
REDIS_SENTINELS: { value: "{{ $name }}-0:26379,{{ $name }}-1:26379,{{ $name }}-2:26379" }
REDIS_SENTINEL_NAME: { value: sessions }
{{- else }}
REDIS_SENTINELS: { value: {{ join "," $redis.sentinel.nodes | quote }} }
REDIS_SENTINEL_NAME: { value: {{ required "redis.sentinel.nodes needs redis.sentinel.name" $redis.sentinel.name | quote }} }
{{- end }}
{{- with $redis.existingSecret }}
REDIS_SENTINEL_PASSWORD: { valueFrom: { secretKeyRef: { name: {{ . | quote }}, key: {{ ternary "password" "sentinel-password" (ne $own "") }}, optional: {{ eq $own "" }} } } }
{{- end }}
{{- else if eq $redis.mode "cluster" }}
REDIS_CLUSTER_NODES: { value: {{ required "redis.mode: cluster needs redis.cluster.nodes, such as [redis-0.redis:6379]" (join "," $redis.cluster.nodes) | quote }} }
{{- else if ne $redis.mode "none" }}
{{- fail (printf "redis.mode must be none, bundled, external, sentinel or cluster, got %q" (toString $redis.mode)) }}
{{- end }}
{{- if and $redis.existingSecret (ne $redis.mode "none") }}
REDIS_PASSWORD: { valueFrom: { secretKeyRef: { name: {{ $redis.existingSecret | quote }}, key: password, optional: {{ and (eq $redis.mode "external") (eq $redis.url "") }} } } }
{{- end }}
{{- if has $redis.mode (list "external" "sentinel" "cluster") }}
{{- if not $own }}
{{- with $redis.username }}
REDIS_USERNAME: { value: {{ . | quote }} }
{{- end }}
{{- if and $redis.tls (ne $redis.mode "external") }}
REDIS_TLS: { value: "true" }
{{- end }}
{{- if or $redis.ca.configMap $redis.ca.secret }}
REDIS_CA_FILE: { value: "/etc/redis-ca/{{ $redis.ca.key }}" }
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The list of a container: the chart's variables, then app.env. @throws where both set one */}}
{{- define "koa-bosun.env" -}}
{{- $own := fromYaml (include "koa-bosun.ownEnv" .) }}
{{- $yours := default dict .Values.app.env }}
{{- range $name, $source := $own }}
{{- if hasKey $yours $name }}{{ include "koa-bosun.refuseEnv" $name }}{{ end }}
- {{ toYaml (merge (dict "name" $name) $source) | nindent 2 | trim }}
{{- end }}
{{- range $name, $value := $yours }}
{{- if has $name (list "ADMIN_PORT" "WEB_CONCURRENCY") }}{{ include "koa-bosun.refuseEnv" $name }}{{ end }}
{{- $source := dict }}
{{- if kindIs "map" $value }}{{ $source = $value }}
{{- else if kindIs "string" $value }}{{ $source = dict "value" $value }}
{{- else if not (kindIs "invalid" $value) }}{{ $source = dict "value" (toJson $value) }}
{{- end }}
{{- if $source }}
- {{ toYaml (merge (dict "name" $name) $source) | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end }}

{{- define "koa-bosun.refuseEnv" -}}
{{- $value := get (dict "APP_MODULE" "app.module" "PORT" "app.port" "NODE_CLUSTER_WORKERS" "workers" "WEB_CONCURRENCY" "workers" "SHUTDOWN_DELAY_MS" "shutdown.delaySeconds" "SHUTDOWN_TIMEOUT_MS" "shutdown.timeoutSeconds" "TRUST_PROXY" "trustProxy" "HOST" "ipFamily" "ADMIN_HOST" "ipFamily" "SERVICE_NAME" "sessions.prefix" "SESSION_KEYS" "sessions.keysSecret" "SESSION_WAIT_REPLICAS" "sessions.waitReplicas" "ADMIN_TOKEN" "admin.tokenSecret") . }}
{{- if hasPrefix "REDIS_" . }}{{ $value = "redis" }}{{ end }}
{{- fail (printf "app.env.%s: the chart sets it; %s" . (ternary (printf "use the value %s" $value) "it cannot be changed" (ne $value ""))) }}
{{- end }}
