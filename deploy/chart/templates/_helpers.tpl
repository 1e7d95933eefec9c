{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- define "weir.image" -}}
{{ required "image.repository is required: push what `make image` writes, and name it here" .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "weir.labels" -}}
app.kubernetes.io/name: weir-node
app.kubernetes.io/part-of: weir
{{- end }}
