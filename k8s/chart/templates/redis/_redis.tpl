{{/* What both forms of the chart's own Redis share. */}}

{{/* Nobody's on the node, as the app's; fsGroup gives it the volume. */}}
{{- define "koa-bosun.redisPod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10002
  runAsGroup: 10002
  fsGroup: 10002
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- include "koa-bosun.texts" . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "koa-bosun.redisContainer" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: { drop: [ALL] }
volumeMounts:
  - { name: data, mountPath: /data }
  {{- if eq (include "koa-bosun.ownRedis" .) "redis-sentinel" }}
  - { name: scripts, mountPath: /scripts, readOnly: true }
  {{- end }}
  - { name: tmp, mountPath: /tmp }
{{- end }}

{{- define "koa-bosun.redisVolumes" -}}
- name: tmp
  emptyDir: { sizeLimit: 16Mi }
{{- if not .Values.redis.persistence.enabled }}
- name: data
  emptyDir: { sizeLimit: {{ toJson .Values.redis.persistence.size | trimAll "\"" | quote }} }
{{- end }}
{{- end }}

{{- define "koa-bosun.redisClaims" -}}
{{- with .Values.redis.persistence }}
{{- if .enabled }}
volumeClaimTemplates:
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      volumeMode: Filesystem
      {{- with .storageClass }}
      storageClassName: {{ ternary "" . (eq . "-") | quote }}
      {{- end }}
      resources:
        requests: { storage: {{ toJson .size | trimAll "\"" | quote }} }
    # With all that the server adds, so that another apply finds nothing to change.
    status: { phase: Pending }
{{- end }}
{{- end }}
{{- end }}
