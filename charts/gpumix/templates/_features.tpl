{{/*
What a configuration makes gpumix do, and hence what it may do, which ports it has and which files it reads. A
question is answered by "true" or nothing. Keys that are not here need nothing of the cluster.
*/}}

{{/* Follows Deployments of the cluster. */}}
{{- define "gpumix.followsDeployments" -}}
{{- if ne (dig "deployments" "source" "kubernetes" .Values.config) "config" }}true{{ end -}}
{{- end -}}

{{/*
Reads what scales these Deployments: HorizontalPodAutoscalers, ScaledObjects, PodAutoscalers. Where it scales itself, also
beside listed deployments: it writes nothing before it knows that nothing else does.
*/}}
{{- define "gpumix.followsConsumers" -}}
{{- if and (or (include "gpumix.followsDeployments" .) (include "gpumix.scales" .)) (dig "deployments" "followConsumers" true .Values.config) }}true{{ end -}}
{{- end -}}

{{/* Counts the GPUs of the cluster's nodes. `pools` is otherwise a list of them. */}}
{{- define "gpumix.countsNodes" -}}
{{- if kindIs "map" .Values.config.pools }}{{ if .Values.config.pools.fromNodes }}true{{ end }}{{ end -}}
{{- end -}}

{{/* Writes the scale of objects itself. */}}
{{- define "gpumix.scales" -}}
{{- if has (dig "actuate" "none" .Values.config) (list "scale" "dry-run") }}true{{ end -}}
{{- end -}}

{{/* Who may change something: `anybody`, `bearers`, or `nobody` yet (docs/security.md). */}}
{{- define "gpumix.mayChange" -}}
{{- $server := dig "server" dict .Values.config -}}
{{- if $server.allowUnauthenticated }}anybody{{ else if or $server.tokenFile (include "gpumix.reviewsTokens" .) }}bearers{{ else }}nobody{{ end -}}
{{- end -}}

{{/* Asks the cluster whose bearer token it was sent. */}}
{{- define "gpumix.reviewsTokens" -}}
{{- if kindIs "map" (dig "server" "tokenReview" nil .Values.config) }}true{{ end -}}
{{- end -}}

{{/* Answers KEDA over gRPC. */}}
{{- define "gpumix.answersKeda" -}}
{{- if kindIs "map" (dig "keda" "scaler" nil .Values.config) }}true{{ end -}}
{{- end -}}

{{/* Serves external.metrics.k8s.io, for the HPA and AIBrix. */}}
{{- define "gpumix.servesMetricsApi" -}}
{{- if kindIs "map" (dig "externalMetrics" nil .Values.config) }}true{{ end -}}
{{- end -}}

{{/* The Service that the APIService names; gpumix compares it with its configuration. */}}
{{- define "gpumix.metricsApiName" -}}
{{- dig "externalMetrics" "serviceName" "gpumix-external-metrics" .Values.config -}}
{{- end -}}

{{/* Asks the API server anything at all, for which it needs the token of its account. */}}
{{- define "gpumix.usesApi" -}}
{{- if or (include "gpumix.followsDeployments" .) (include "gpumix.scales" .) (include "gpumix.reviewsTokens" .) (include "gpumix.servesMetricsApi" .) (include "gpumix.countsNodes" .) }}true{{ end -}}
{{- end -}}

{{/* The namespaces of what it follows or scales, as a list; empty = all. */}}
{{- define "gpumix.namespaces" -}}
{{- $deployments := dig "deployments" dict .Values.config -}}
{{- if include "gpumix.followsDeployments" . -}}
{{- dig "namespaces" list $deployments | uniq | toYaml -}}
{{- else -}}
{{- $found := list -}}
{{- range dig "list" list $deployments }}{{ $found = append $found (default "default" .namespace) }}{{ end -}}
{{- uniq $found | toYaml -}}
{{- end -}}
{{- end -}}

{{/* Ports of the container, and of the Service under the same names; those without `port` have a Service of their own. */}}
{{- define "gpumix.ports" -}}
- name: http
  port: {{ .Values.service.port }}
  containerPort: {{ dig "server" "port" 8080 .Values.config }}
{{- if include "gpumix.answersKeda" . }}
{{- $port := dig "keda" "scaler" "port" 9090 .Values.config }}
- name: grpc
  port: {{ $port }}
  containerPort: {{ $port }}
{{- end }}
{{- if include "gpumix.servesMetricsApi" . }}
- name: metrics-api
  containerPort: {{ dig "externalMetrics" "port" 8443 .Values.config }}
{{- end }}
{{- end -}}

{{/*
Folders below /etc/gpumix. Whole folders: a file mounted alone would never be renewed. Secrets are for the user and the
group of the pod (fsGroup) alone.
*/}}
{{- define "gpumix.files" -}}
- name: config
  source:
    configMap:
      name: {{ include "gpumix.fullname" . | quote }}
{{- range $folder, $name := .Values.configMaps }}
{{- if hasKey $.Values.secrets $folder }}
{{- fail (printf "configMaps.%s: the folder is in secrets too; give one of them another name" $folder) }}
{{- end }}
- name: {{ $folder | quote }}
  source:
    configMap:
      name: {{ $name | quote }}
{{- end }}
{{- if and (include "gpumix.servesMetricsApi" .) .Values.externalMetrics.certManager.enabled }}
- name: external-metrics-tls
  source:
    secret:
      secretName: {{ include "gpumix.fullname" . }}-external-metrics-tls
      defaultMode: 0440
{{- end }}
{{- range $folder, $name := .Values.secrets }}
- name: {{ $folder | quote }}
  source:
    secret:
      secretName: {{ $name | quote }}
      defaultMode: 0440
{{- end }}
{{- end -}}

{{- define "gpumix.env" -}}
{{- if .Values.redisPassword.existingSecret }}
- name: GPUMIX_REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redisPassword.existingSecret | quote }}
      key: {{ .Values.redisPassword.key | quote }}
{{- end }}
{{- if .Values.redisSentinelPassword.existingSecret }}
- name: GPUMIX_REDIS_SENTINEL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redisSentinelPassword.existingSecret }}
      key: {{ .Values.redisSentinelPassword.key }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
