{{- define "streamer.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "streamer.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "streamer.labels" -}}
{{ include "streamer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "streamer.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}

{{/* A drain ends by drain.hard_s; then model workers get 5 s, and the rest is room. */}}
{{- define "streamer.gracePeriod" -}}
{{ add 20 (ceil (dig "drain" "hard_s" 40 .Values.settings)) }}
{{- end -}}

{{- define "streamer.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* How a server and the Ray node beside it reach the cluster. The token is never a value of this chart. */}}
{{- define "streamer.rayEnv" -}}
- { name: RAY_AUTH_MODE, value: {{ ternary "token" "disabled" (ne .Values.ray.tokenSecret "") }} }
{{- if .Values.ray.tokenSecret }}
- { name: RAY_AUTH_TOKEN_PATH, value: /etc/ray/token }
{{- end }}
- { name: RAY_worker_niceness, value: "0" }
- { name: RAY_TMPDIR, value: /tmp/ray }
- { name: RAY_USAGE_STATS_ENABLED, value: "0" }
{{- end -}}

{{- define "streamer.rayMounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: shm, mountPath: /dev/shm }
{{- if .Values.ray.tokenSecret }}
- { name: ray-token, mountPath: /etc/ray, readOnly: true }
{{- end }}
{{- end -}}
