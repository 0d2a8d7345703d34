{{- /* Names, labels and blocks that several files need. */ -}}

{{- define "gfe.name" -}}
{{ default .Release.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "gfe.labels" -}}
app.kubernetes.io/name: gpu-for-everyone
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* What selects the pods of one part: (dict "root" $ "part" "ledger"). */ -}}
{{- define "gfe.part" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- /* One of our images: (dict "root" $ "repository" …). */ -}}
{{- define "gfe.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ .repository }}:{{ default .root.Chart.AppVersion $image.tag }}
{{- end }}

{{- define "gfe.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "gfe.security" -}}
runAsNonRoot: true
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What the pods of one part have in common; each part has a user of its own, the same as in its image. */ -}}
{{- define "gfe.pod" -}}
{{- $users := dict "ledger" 60900 "test" 60900 "head" 60901 "control" 60901 "gpu" 60901 "edge" 60902 "auditor" 60904 "migrate" 60905 "guard" 60908 -}}
enableServiceLinks: false
securityContext: {{- include "gfe.podSecurity" (get $users .part) | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gfe.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "gfe.part" . | nindent 8 }}
{{- end }}

{{- /* Settings as environment, in the order of their names. */ -}}
{{- define "gfe.env" -}}
{{- range $name, $value := . -}}
- name: {{ $name }}
  value: {{ $value | quote }}
{{ end }}
{{- end }}

{{- define "gfe.ledgerInternalUrl" -}}
https://{{ include "gfe.name" . }}-ledger:8091
{{- end }}

{{- define "gfe.edgeUrls" -}}
{{- $name := include "gfe.name" . -}}
{{- $urls := list -}}
{{- range $i := until (int .Values.edge.replicas) }}
{{- $urls = append $urls (printf "http://%s-edge-%d.%s-edge-nodes:8085" $name $i $name) }}
{{- end }}
{{- ternary (join "," $urls) "" .Values.edge.enabled }}
{{- end }}

{{- /* What Ray reads on every pod of the cluster. The token comes from KubeRay. */ -}}
{{- define "gfe.rayEnv" -}}
{{- $env := dict
  "HOME" "/tmp"
  "RAY_ENABLE_UV_RUN_RUNTIME_ENV" "0"
  "RAY_USAGE_STATS_ENABLED" "0"
  "RAY_DISABLE_IMPORT_WARNING" "1"
  "RAY_worker_niceness" "0"
  "RAY_gcs_rpc_server_reconnect_timeout_s" "300"
  "RAY_SERVE_THROUGHPUT_OPTIMIZED" "1"
}}
{{- if .Values.serve.haproxy }}
{{- $env = merge $env (dict "RAY_SERVE_ENABLE_HA_PROXY" "1" "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S" "1") }}
{{- else }}
{{- $env = merge $env (dict "RAY_SERVE_PROXY_USE_GRPC" "1") }}
{{- end }}
{{- include "gfe.env" $env }}
{{- end }}

{{- define "gfe.rayProbes" -}}
startupProbe:
  httpGet: {path: /api/healthz, port: 52365}
  periodSeconds: 5
  failureThreshold: 36
readinessProbe:
  httpGet: {path: /api/healthz, port: 52365}
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  httpGet: {path: /api/healthz, port: 52365}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 12
{{- end }}
