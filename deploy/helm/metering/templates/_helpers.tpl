{{- define "metering.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change. Call with (list $ "api"). */}}
{{- define "metering.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: metering
app.kubernetes.io/instance: {{ $root.Release.Name | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "metering.labels" -}}
{{- $root := index . 0 -}}
{{ include "metering.selector" . }}
app.kubernetes.io/part-of: metering
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- define "metering.image" -}}
{{- $image := .Values.image -}}
{{- $repository := required "image.repository is not set: build the image with deploy/Dockerfile, push it, and say where it is" $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "metering.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "metering.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Hooks run before the chart's own account exists. */}}
{{- define "metering.hookServiceAccount" -}}
{{- if .Values.serviceAccount.create }}default{{ else }}{{ include "metering.serviceAccount" . }}{{ end -}}
{{- end -}}

{{/* What is the same in every pod. Without service links: Kubernetes would set METERING_PORT, which is a setting, to the
     address of the Service "metering". */}}
{{- define "metering.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "metering.container" -}}
image: {{ include "metering.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Pods of one part on different nodes and in different zones, if there are some. Call with (list $ "api"). */}}
{{- define "metering.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "metering.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* A variable from a Secret; nothing without a name. Call with (list "VARIABLE" reference). */}}
{{- define "metering.secretVariable" -}}
{{- $reference := index . 1 -}}
{{- if $reference.name }}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ $reference.name }}, key: {{ $reference.key }}}}
{{- end -}}
{{- end -}}

{{/* Variables as they stand in the values. */}}
{{- define "metering.settings" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end -}}
{{- end -}}

{{/* The environment of a part, with the secrets that it may know. Call with (list $ "api"). */}}
{{- define "metering.environment" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- with $root.Values.secrets -}}
{{- range $name := list "databaseUrl" "redisUrl" "ownerDatabaseUrl" -}}
{{- if not (index $root.Values.secrets $name).name }}{{ fail (printf "secrets.%s.name is not set: name the Secret that has it" $name) }}{{ end -}}
{{- end -}}
{{- include "metering.secretVariable" (list "METERING_DATABASE_URL" .databaseUrl) -}}
{{- include "metering.secretVariable" (list "METERING_REDIS_URL" .redisUrl) -}}
{{- if eq $part "migrate" -}}
{{- include "metering.secretVariable" (list "METERING_MIGRATION_DATABASE_URL" .ownerDatabaseUrl) -}}
{{- include "metering.secretVariable" (list "METERING_ADMIN_KEY" .adminKey) -}}
{{- include "metering.secretVariable" (list "METERING_GATEWAY_INGEST_KEY" .gatewayIngestKey) -}}
{{- else if eq $part "api" -}}
{{- include "metering.secretVariable" (list "STRIPE_WEBHOOK_SECRET" .stripeWebhookSecret) -}}
{{- include "metering.secretVariable" (list "METERING_METRICS_TOKEN" .metricsToken) -}}
{{- else if eq $part "worker" -}}
{{- include "metering.secretVariable" (list "STRIPE_API_KEY" .stripeApiKey) -}}
{{- end -}}
{{- end -}}
{{- include "metering.settings" $root.Values.settings -}}
{{- end -}}

{{/* What the gateway gets beside its addresses: no login to a database, and no key but its own and its upstreams'. */}}
{{- define "metering.gatewayEnvironment" -}}
{{- with .Values.gateway -}}
{{- include "metering.secretVariable" (list "METERING_GATEWAY_RESUME_REDIS_URL" .resumeRedisUrl) -}}
{{- range $name, $reference := .upstreamKeys -}}
{{- include "metering.secretVariable" (list $name $reference) -}}
{{- end -}}
{{- include "metering.settings" .settings -}}
{{- end -}}
{{- end -}}

{{- define "metering.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "metering.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Ready: database and queue answer, the schema is current, and no stream has been due for more than a minute. Never a
     reason to restart: a restart mends no database. */}}
{{- define "metering.doctor" -}}
readinessProbe:
  exec: {command: [metering, doctor]}
  periodSeconds: 60
  timeoutSeconds: 30
  failureThreshold: 3
{{- end -}}

{{/* A pod that stops is still sent requests until every node has heard of it. */}}
{{- define "metering.drain" -}}
lifecycle:
  preStop: {exec: {command: [sleep, {{ . | quote }}]}}
{{- end -}}
