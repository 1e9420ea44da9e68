/** The files of the profile observability of compose.yaml: the kit's own, by their path there and in the app's folder. */
export const OBSERVABILITY = [
  'docker/prometheus.yml',
  'docker/alerts.yml',
  'docker/grafana/dashboard.json',
  'docker/grafana/datasource.yml',
  'docker/grafana/provisioning.yml',
] as const;
