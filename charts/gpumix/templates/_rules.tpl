{{/* What gpumix may ask of the API server, feature by feature; nothing that is switched off is granted. */}}

{{/* In the namespaces of its deployments. */}}
{{- define "gpumix.namespacedRules" -}}
{{- if include "gpumix.followsDeployments" . }}
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch]
{{- end }}
{{- if include "gpumix.followsConsumers" . }}
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [list, watch]
- apiGroups: [autoscaling.aibrix.ai]
  resources: [podautoscalers]
  verbs: [list, watch]
{{- end }}
{{- if include "gpumix.scales" . }}
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [get, patch]
{{- range .Values.rbac.alsoScales }}
- apiGroups: [{{ .group | quote }}]
  resources: ["{{ .resource }}/scale"]
  verbs: [get, patch]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
{{- end -}}

{{/* Of what has no namespace, or is looked at in all of them. */}}
{{- define "gpumix.clusterRules" -}}
{{- if include "gpumix.countsNodes" . }}
- apiGroups: [""]
  resources: [nodes, pods]
  verbs: [list, watch]
{{- end }}
{{- if include "gpumix.servesMetricsApi" . }}
- apiGroups: [apiregistration.k8s.io]
  resources: [apiservices]
  resourceNames: [v1beta1.external.metrics.k8s.io]
  verbs: [get]
{{- end }}
{{- if include "gpumix.reviewsTokens" . }}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
{{- if not (dig "server" "tokenReview" "users" (list) .Values.config) }}
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
{{- end }}
{{- end }}
{{- end -}}
