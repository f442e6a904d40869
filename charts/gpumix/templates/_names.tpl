{{/* Names and labels, each said once. */}}

{{- define "gpumix.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Of everything that belongs to a release: the release's own name where that says gpumix already. */}}
{{- define "gpumix.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "gpumix.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "gpumix.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Objects without a namespace: two releases of one name in two namespaces must not share them. */}}
{{- define "gpumix.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "gpumix.fullname" .) -}}
{{- end -}}

{{/* The Service, under which AIBrix's PodAutoscalers may know it already. */}}
{{- define "gpumix.serviceName" -}}
{{- default (include "gpumix.fullname" .) .Values.service.name -}}
{{- end -}}

{{- define "gpumix.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gpumix.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "gpumix.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gpumix.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "gpumix.labels" -}}
{{ include "gpumix.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* A digest names one image for ever; a tag may move. */}}
{{- define "gpumix.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}
