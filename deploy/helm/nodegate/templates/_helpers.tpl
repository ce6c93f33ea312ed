{{- define "nodegate.name" -}}
{{- printf "nodegate-%s" .Release.Name | replace "nodegate-nodegate" "nodegate" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "nodegate.serviceAccount" -}}
{{- default (include "nodegate.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "nodegate.selector" -}}
app.kubernetes.io/name: nodegate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nodegate.labels" -}}
{{ include "nodegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* The whole nodegate.yaml: what the values say, and what the chart decides. */ -}}
{{- define "nodegate.config" -}}
{{- $own := dict
  "policy" (dict "dir" "/etc/nodegate/policies")
  "audit" (dict "dir" "/var/lib/nodegate")
  "admin" (dict "socket" "/run/nodegate/nodegate.sock" "listen" (printf "0.0.0.0:%d" (int .Values.metrics.port)))
-}}
{{- merge $own (deepCopy .Values.config) | toYaml -}}
{{- end -}}
