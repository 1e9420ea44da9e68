/**
 * A fault for each rule: where (a kind, and a name that is not `app`), the path, and the value, or none to take it away.
 */
export interface Mutation {
  where: string;
  path: string;
  value?: unknown;
  rule: string;
}

const SPEC = 'spec.template.spec';
const CONTAINER = `${SPEC}.containers.0`;
const OTHERS = { matchLabels: { a: 'b' } };
const PORT_53 = { port: 53, protocol: 'UDP' };
const REDIS = (configuration: string) => ['sh', '-c', `exec redis-server - <<END\n${configuration}\nEND`];

export const MUTATIONS: Mutation[] = [
  { where: 'Namespace/koa-bosun', path: 'kind', value: 'Pod', rule: 'namespace-first' },
  { where: 'Service', path: 'metadata.namespace', rule: 'namespace-field' },
  { where: 'Namespace/koa-bosun', path: 'metadata.labels', value: {}, rule: 'pod-security' },
  { where: 'Service/redis', path: 'metadata.name', value: 'app', rule: 'once' },
  { where: 'ConfigMap', path: 'metadata.generateName', value: 'app-', rule: 'named' },
  { where: 'Deployment', path: 'status', value: {}, rule: 'nothing-of-the-server' },
  { where: 'Service', path: 'metadata.resourceVersion', value: '1', rule: 'nothing-of-the-server' },
  { where: 'Deployment', path: `${CONTAINER}.resources.limits.cpu`, value: '2000m', rule: 'quantities' },
  { where: 'Deployment', path: `${CONTAINER}.resources.requests.cpu`, value: '0.5', rule: 'quantities' },
  { where: 'Deployment', path: `${SPEC}.volumes.0.emptyDir.sizeLimit`, value: '1024Mi', rule: 'quantities' },
  { where: 'StatefulSet/redis', path: 'spec.volumeClaimTemplates.0.spec.volumeMode', rule: 'claims-complete' },
  { where: 'NetworkPolicy', path: 'spec.egress.0.ports.0.protocol', rule: 'policies-complete' },
  { where: 'Deployment', path: `${CONTAINER}.image`, value: 'koa-bosun:0.0.9', rule: 'image-version' },
  { where: 'Deployment', path: 'metadata.labels', rule: 'version-label' },
  { where: 'Deployment', path: `${SPEC}.serviceAccountName`, value: 'ap', rule: 'references' },
  { where: 'Deployment', path: `${CONTAINER}.envFrom.0.configMapRef.name`, value: 'ap', rule: 'references' },

  { where: 'Deployment', path: `${SPEC}.automountServiceAccountToken`, value: true, rule: 'no-token' },
  { where: 'Deployment', path: `${SPEC}.enableServiceLinks`, rule: 'no-service-links' },
  { where: 'Deployment', path: `${SPEC}.securityContext.runAsNonRoot`, value: false, rule: 'non-root' },
  { where: 'Deployment', path: `${SPEC}.securityContext.seccompProfile`, rule: 'seccomp' },
  { where: 'StatefulSet/redis', path: `${SPEC}.securityContext.runAsUser`, value: 999, rule: 'high-id' },
  { where: 'StatefulSet/redis', path: `${SPEC}.securityContext.fsGroup`, rule: 'high-id' },
  { where: 'Deployment', path: `${SPEC}.hostNetwork`, value: true, rule: 'no-host' },
  { where: 'Deployment', path: `${SPEC}.volumes.0.emptyDir`, value: {}, rule: 'small-volumes' },
  { where: 'Job/load', path: `${SPEC}.volumes.0`, value: { name: 'tmp', hostPath: { path: '/tmp' } }, rule: 'small-volumes' },
  { where: 'StatefulSet/redis', path: `${SPEC}.serviceAccountName`, value: 'default', rule: 'own-account' },
  { where: 'Job/load', path: `${SPEC}.restartPolicy`, value: 'Always', rule: 'restart-policy' },
  { where: 'Deployment', path: 'spec.template.metadata.labels', value: {}, rule: 'labels' },
  { where: 'Deployment', path: `${CONTAINER}.securityContext.allowPrivilegeEscalation`, value: true, rule: 'no-escalation' },
  { where: 'Job/load', path: `${CONTAINER}.securityContext.capabilities.drop`, value: [], rule: 'no-capabilities' },
  { where: 'Deployment', path: `${CONTAINER}.securityContext.readOnlyRootFilesystem`, value: false, rule: 'read-only-root' },
  { where: 'Deployment', path: `${CONTAINER}.securityContext.privileged`, value: true, rule: 'not-privileged' },
  { where: 'Deployment', path: `${CONTAINER}.securityContext.procMount`, value: 'Unmasked', rule: 'not-privileged' },
  { where: 'Deployment', path: `${CONTAINER}.resources.limits.cpu`, rule: 'limits' },
  { where: 'Deployment', path: `${CONTAINER}.resources.requests.memory`, value: '1Gi', rule: 'memory-request' },
  { where: 'Deployment', path: `${CONTAINER}.image`, value: 'koa-bosun:latest', rule: 'image-fixed' },
  { where: 'StatefulSet/redis', path: `${CONTAINER}.image`, value: 'redis', rule: 'image-fixed' },
  { where: 'Deployment', path: `${CONTAINER}.imagePullPolicy`, rule: 'pull-policy' },
  { where: 'Deployment', path: `${CONTAINER}.ports.0.containerPort`, value: 80, rule: 'port-names' },
  { where: 'Deployment', path: `${CONTAINER}.ports.0.hostPort`, value: 3000, rule: 'port-names' },
  { where: 'Deployment', path: `${CONTAINER}.ports.0.name`, value: 'a-name-that-is-long', rule: 'port-names' },
  { where: 'Deployment', path: `${CONTAINER}.ports.0.name`, value: 'admin', rule: 'port-names' },
  { where: 'Deployment', path: `${CONTAINER}.env.0.name`, value: 'SESSION_KEYS', rule: 'env-once' },
  { where: 'Deployment', path: `${CONTAINER}.env.4`, value: { name: 'SESSION_KEYS', value: 'x' }, rule: 'secret-by-reference' },
  { where: 'Deployment', path: `${CONTAINER}.startupProbe`, rule: 'three-probes' },
  { where: 'Deployment', path: `${CONTAINER}.readinessProbe.httpGet.path`, value: '/livez', rule: 'probes-differ' },
  { where: 'Deployment', path: `${CONTAINER}.livenessProbe.failureThreshold`, value: 1, rule: 'liveness-patient' },
  { where: 'Deployment', path: `${CONTAINER}.livenessProbe.httpGet.port`, value: 'admn', rule: 'probe-port' },
  { where: 'Deployment', path: `${CONTAINER}.startupProbe.httpGet.path`, value: '/startupz', rule: 'start-without-redis' },

  { where: 'Deployment', path: `${SPEC}.terminationGracePeriodSeconds`, value: 38, rule: 'grace-period' },
  { where: 'Deployment', path: `${CONTAINER}.env.0.value`, value: '20000', rule: 'grace-period' },
  { where: 'Deployment', path: `${CONTAINER}.env.2.value`, value: '60', rule: 'grace-period' },
  { where: 'Deployment', path: `${CONTAINER}.lifecycle`, value: { preStop: {} }, rule: 'no-pre-stop' },
  { where: 'Deployment', path: 'spec.strategy.rollingUpdate.maxUnavailable', value: 1, rule: 'surge-first' },
  { where: 'Deployment', path: 'spec.minReadySeconds', rule: 'surge-first' },
  { where: 'Deployment', path: 'spec.replicas', value: 3, rule: 'replicas-or-autoscaler' },
  { where: 'Deployment', path: `${CONTAINER}.resizePolicy`, value: [], rule: 'resize-in-place' },
  { where: 'Deployment', path: 'spec.progressDeadlineSeconds', rule: 'gives-up' },
  {
    where: 'Deployment',
    path: 'spec.selector.matchLabels',
    value: { 'app.kubernetes.io/name': 'koa-bosun' },
    rule: 'selector-stable',
  },
  { where: 'Deployment', path: `${SPEC}.topologySpreadConstraints.1`, rule: 'spread' },
  {
    where: 'Deployment',
    path: `${SPEC}.topologySpreadConstraints.0.whenUnsatisfiable`,
    value: 'DoNotSchedule',
    rule: 'spread-softly',
  },
  { where: 'Deployment', path: `${SPEC}.topologySpreadConstraints.0.labelSelector`, value: OTHERS, rule: 'spread-selector' },
  { where: 'PodDisruptionBudget', path: 'spec.unhealthyPodEvictionPolicy', rule: 'drain-goes-on' },
  { where: 'PodDisruptionBudget', path: 'spec.selector', value: OTHERS, rule: 'budget-target' },
  { where: 'HorizontalPodAutoscaler', path: 'spec.scaleTargetRef.name', value: 'ap', rule: 'autoscaler-target' },
  { where: 'HorizontalPodAutoscaler', path: 'spec.minReplicas', value: 1, rule: 'autoscaler-minimum' },
  { where: 'HorizontalPodAutoscaler', path: 'spec.behavior', rule: 'autoscaler-calm' },
  { where: 'Service', path: 'spec.ports.0.targetPort', value: 'htp', rule: 'service-target' },
  { where: 'Service/redis', path: 'spec.selector', value: { a: 'b' }, rule: 'service-target' },
  { where: 'Service', path: 'spec.ports.0.targetPort', value: 'admin', rule: 'admin-inside' },
  { where: 'Service', path: 'spec.type', value: 'LoadBalancer', rule: 'service-inside' },

  { where: 'NetworkPolicy/default-deny', path: 'spec.podSelector', value: OTHERS, rule: 'default-deny' },
  { where: 'NetworkPolicy/redis', path: 'spec.podSelector', value: OTHERS, rule: 'policy-selects' },
  { where: 'NetworkPolicy/redis', path: 'spec.ingress.0.from.0.podSelector', value: OTHERS, rule: 'policy-peers' },
  { where: 'NetworkPolicy', path: 'spec.ingress.0.ports.0.port', value: 'htp', rule: 'policy-ports' },
  { where: 'NetworkPolicy', path: 'spec.egress.0.ports.0.port', value: 6380, rule: 'policy-ports' },
  { where: 'NetworkPolicy', path: 'spec.ingress.0.from', value: [{ podSelector: {} }], rule: 'app-from-anyone' },
  { where: 'NetworkPolicy', path: 'spec.ingress.0.ports.1', rule: 'probes-pass' },
  { where: 'NetworkPolicy', path: 'spec.egress', value: [{ ports: [PORT_53] }], rule: 'app-to-redis' },
  { where: 'NetworkPolicy', path: 'spec.egress.1.ports', value: [PORT_53], rule: 'to-dns' },
  { where: 'NetworkPolicy/load', path: 'spec.egress.1', value: {}, rule: 'to-dns' },
  { where: 'NetworkPolicy/redis', path: 'spec.ingress.0.from', value: [], rule: 'redis-from-app' },
  { where: 'NetworkPolicy/redis', path: 'spec.egress', value: [{}], rule: 'redis-from-app' },

  { where: 'StatefulSet/redis', path: `${CONTAINER}.resources.limits.memory`, value: '128Mi', rule: 'redis-memory' },
  { where: 'StatefulSet/redis', path: `${CONTAINER}.command`, value: REDIS('dir /data'), rule: 'redis-memory' },
  { where: 'StatefulSet/redis', path: `${CONTAINER}.command`, value: REDIS('appendonly no'), rule: 'redis-append-only' },
  {
    where: 'StatefulSet/redis',
    path: `${CONTAINER}.command`,
    value: REDIS('maxmemory-policy allkeys-lru'),
    rule: 'redis-eviction',
  },
  { where: 'StatefulSet/redis', path: `${CONTAINER}.command`, value: REDIS('protected-mode yes'), rule: 'redis-takes-pods' },
  { where: 'StatefulSet/redis', path: `${CONTAINER}.command`, value: REDIS('dir /tmp'), rule: 'redis-volume' },
  { where: 'StatefulSet/redis', path: 'spec.replicas', value: 2, rule: 'redis-alone' },
];
