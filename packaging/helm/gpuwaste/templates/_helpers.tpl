{{- define "gpuwaste.name" -}}
{{- if contains "gpuwaste" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-gpuwaste" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- define "gpuwaste.account" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "gpuwaste.name" .) .Values.serviceAccount.name }}{{ else }}{{ default "default" .Values.serviceAccount.name }}{{ end }}
{{- end }}
{{- define "gpuwaste.labels" -}}
app.kubernetes.io/name: gpuwaste
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
{{- define "gpuwaste.subject" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "gpuwaste.account" . }}
    namespace: {{ .Release.Namespace }}
{{- end }}
