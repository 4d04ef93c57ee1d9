{{- define "image" -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- end }}

{{- define "claim" -}}
{{ .Values.store.existingClaim | default (printf "%s-store" .Release.Name) }}
{{- end }}

{{/* Labels by which services, policies and affinities find a component: (list $ "webserver") */}}
{{- define "selector" -}}
app.kubernetes.io/name: stock-assets
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "labels" -}}
{{ include "selector" . }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{- define "podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What every pod has: who it is, and where it may run. */}}
{{- define "pod" -}}
securityContext:
  {{- include "podSecurity" . | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The store is a file: whatever opens it runs on the node of the code server, whose volume it is. */}}
{{- define "besideTheStore" -}}
podAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "selector" (list . "code-server") | nindent 10 }}
{{- end }}

{{/* The bucket's keys, where no identity of the cloud takes their place. */}}
{{- define "objectsKeys" -}}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.secret }}
      key: {{ . }}
      optional: true
{{- end }}
{{- end }}

{{- define "objectsEnvironment" -}}
{{- with .Values.objects.region }}
- name: AWS_REGION
  value: {{ . | quote }}
- name: AWS_DEFAULT_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.objects.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* A pod is made anew where what it mounts has changed. */}}
{{- define "checksum" -}}
checksum/instance: {{ include (print $.Template.BasePath "/config.yaml") . | sha256sum }}
{{- end }}
