{{/* Names, labels, and small forms that several templates share. */}}

{{/* A name of at most `max` characters: a longer one is cut, with a hash of the whole, so that two long names stay different. */}}
{{- define "koa-bosun.short" -}}
{{- if le (len .name) (int .max) }}{{ .name }}
{{- else }}{{ .name | trunc (int (sub .max 9)) | trimSuffix "-" }}-{{ .name | sha256sum | trunc 8 }}
{{- end }}
{{- end }}

{{- define "koa-bosun.name" -}}
{{- include "koa-bosun.short" (dict "name" (default .Chart.Name .Values.nameOverride) "max" 57) }}
{{- end }}

{{/* Services take neither dots nor a digit at the beginning, releases have both. */}}
{{- define "koa-bosun.fullname" -}}
{{- $name := include "koa-bosun.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- $full = default $full .Values.fullnameOverride | replace "." "-" }}
{{- if regexMatch "^[0-9]" $full }}{{ $full = printf "app-%s" $full }}{{ end }}
{{- include "koa-bosun.short" (dict "name" $full "max" 63) }}
{{- end }}

{{/* The name of an object beside the app, such as redis. A StatefulSet puts a hash of 10 characters after its name into a label. */}}
{{- define "koa-bosun.sideName" -}}
{{- include "koa-bosun.short" (dict "name" (printf "%s-%s" (include "koa-bosun.fullname" .root) .side) "max" 52) }}
{{- end }}

{{/* Selectors cannot be changed later: nothing in them changes with a version. The name of Redis has that of the app in it, so that two
     charts of this kind in one release do not meet. */}}
{{- define "koa-bosun.selector" -}}
app.kubernetes.io/name: {{ include "koa-bosun.name" . | quote }}
app.kubernetes.io/instance: {{ include "koa-bosun.instance" . }}
{{- end }}
{{- define "koa-bosun.sideSelector" -}}
app.kubernetes.io/name: {{ printf "%s-%s" (include "koa-bosun.name" .root) .side | quote }}
app.kubernetes.io/instance: {{ include "koa-bosun.instance" .root }}
{{- end }}
{{- define "koa-bosun.instance" -}}
{{- include "koa-bosun.short" (dict "name" .Release.Name "max" 63) | quote }}
{{- end }}

{{/* The version of what runs: the tag of the image, as far as a label takes it. None for a digest alone. */}}
{{- define "koa-bosun.version" -}}
{{- with .Values.image -}}
{{- if or .tag (not .digest) -}}
app.kubernetes.io/version: {{ default $.Chart.AppVersion .tag | toString | trunc 63 | trimAll "-_." | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* A map of texts, whatever YAML takes its values for: annotations, labels. */}}
{{- define "koa-bosun.texts" -}}
{{- $texts := dict }}
{{- range $key, $value := . }}{{ $_ := set $texts $key (ternary $value (toJson $value) (kindIs "string" $value)) }}{{ end }}
{{- toYaml $texts }}
{{- end }}

{{/* Labels of every object: { root, selector, component }. */}}
{{- define "koa-bosun.labels" -}}
{{- $own := fromYaml (include "koa-bosun.podLabels" .) }}
{{- $chart := dict "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimAll "-_.") "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- toYaml (mergeOverwrite (fromYaml (include "koa-bosun.texts" .root.Values.commonLabels)) $chart $own) }}
{{- end }}
{{- define "koa-bosun.podLabels" -}}
{{ .selector }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: koa-bosun
{{- if eq .component "app" }}
{{ include "koa-bosun.version" .root }}
{{- end }}
{{- end }}

{{/* The labels of a pod, and yours: { root, selector, component, own }. */}}
{{- define "koa-bosun.allPodLabels" -}}
{{- $common := fromYaml (include "koa-bosun.texts" .root.Values.commonLabels) }}
{{- toYaml (mergeOverwrite $common (fromYaml (include "koa-bosun.texts" .own)) (fromYaml (include "koa-bosun.podLabels" .))) }}
{{- end }}

{{/* Name, namespace and labels of an object of the app; annotations, if there are some. */}}
{{- define "koa-bosun.metadata" -}}
name: {{ default (include "koa-bosun.fullname" .root) .name | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "koa-bosun.labels" (dict "root" .root "selector" (include "koa-bosun.selector" .root) "component" "app") | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- include "koa-bosun.texts" . | nindent 2 }}
{{- end }}
{{- end }}
{{- define "koa-bosun.sideMetadata" -}}
name: {{ include "koa-bosun.sideName" . | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "koa-bosun.labels" (dict "root" .root "selector" (include "koa-bosun.sideSelector" .) "component" (ternary "sessions" .side (hasPrefix "redis" .side))) | nindent 2 }}
{{- end }}

{{- define "koa-bosun.serviceAccountName" -}}
{{- default (ternary (include "koa-bosun.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{/* repository:tag, or repository@digest. */}}
{{- define "koa-bosun.image" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end }}
{{- end }}
{{- define "koa-bosun.appImage" -}}
{{- with .Values.image }}{{ include "koa-bosun.image" (dict "repository" .repository "digest" .digest "tag" (default $.Chart.AppVersion .tag)) }}{{ end }}
{{- end }}
{{- define "koa-bosun.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ if kindIs "string" . }}{{ . | quote }}{{ else }}{{ .name | quote }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Between the first SIGTERM and the kill: 10 s for close handlers, signal listeners, Redis and the exit, of which the kit uses 5. */}}
{{- define "koa-bosun.graceSeconds" -}}
{{- add (int .Values.shutdown.delaySeconds) (int .Values.shutdown.timeoutSeconds) 10 }}
{{- end }}

{{/* The chart's own Redis, by the end of its name: redis (one pod), redis-sentinel (three), or nothing. */}}
{{- define "koa-bosun.ownRedis" -}}
{{- if eq .Values.redis.mode "bundled" }}redis
{{- else if and (eq .Values.redis.mode "sentinel") (not .Values.redis.sentinel.nodes) }}redis-sentinel
{{- end }}
{{- end }}

{{/* requests and limits, numbers among them as text. */}}
{{- define "koa-bosun.resources" -}}
{{- $all := dict }}
{{- range $kind, $quantities := . }}
{{- if eq $kind "claims" }}{{ $_ := set $all $kind $quantities }}
{{- else if $quantities }}
{{- $texts := dict }}
{{- range $name, $quantity := $quantities }}{{ $_ := set $texts $name (toJson $quantity | trimAll "\"") }}{{ end }}
{{- $_ := set $all $kind $texts }}
{{- end }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{/* Of every Service. */}}
{{- define "koa-bosun.ipFamily" -}}
{{- if eq .Values.ipFamily "DualStack" }}
ipFamilyPolicy: PreferDualStack
{{- else if .Values.ipFamily }}
ipFamilyPolicy: SingleStack
ipFamilies: [{{ .Values.ipFamily }}]
{{- end }}
{{- end }}
