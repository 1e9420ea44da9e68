/**
 * A sample of every value of the chart: what it is set to, and where it must appear then. Without it, something else is there.
 */
import type { Values } from './chart.ts';

export interface Sample {
  value: unknown;
  /** Kind, name if it is not the app's, and path: `Deployment spec.replicas`; `StatefulSet/shop-koa-bosun-redis …`. */
  where: string;
  /** What is there. Default: the value. */
  becomes?: unknown;
  /** Values that it needs, by their paths; they are set in the comparison, too. */
  needs?: Values;
}

const POD = 'Deployment spec.template.spec';
const APP = `${POD}.containers.0`;
/** A variable of the app's container, by its name. */
const env = (name: string) => `${APP}.env.${name}`;
const REDIS = 'StatefulSet/shop-koa-bosun-redis spec.template.spec';
const REDIS_CONTAINER = `${REDIS}.containers.0`;
const secret = (name: string, key: string) => ({ valueFrom: { secretKeyRef: { name, key } } });
const HPA = 'HorizontalPodAutoscaler spec';
const KEDA = 'ScaledObject spec';
const INGRESS = { 'ingress.enabled': true };
const ROUTE = { 'httpRoute.enabled': true, 'httpRoute.parentRefs': [{ name: 'gateway' }] };
const CPU = { 'autoscaling.mode': 'cpu' };
const CUSTOM = { 'autoscaling.mode': 'custom' };
const SCALED = { 'autoscaling.mode': 'keda' };
const POLICY = { 'networkPolicy.enabled': true };
const MONITOR = { 'monitoring.podMonitor': true };
const EXTERNAL = { 'redis.mode': 'external', 'redis.url': 'rediss://redis.example.com:6380/2' };
const SENTINELS = { 'redis.mode': 'sentinel', 'redis.sentinel.nodes': ['a.example.com:26379', 'b.example.com:26380'] };
const GROUP = 'StatefulSet/shop-koa-bosun-redis-sentinel spec.template.spec';
const THREE = { 'redis.mode': 'sentinel' };
const CA = '/etc/redis-ca';
const PEERS = [{ namespaceSelector: { matchLabels: { team: 'infra' } } }];
const DIGEST = `sha256:${'0a'.repeat(32)}`;

export const SAMPLES: Record<string, Sample> = {
  nameOverride: { value: 'web', where: 'Service/shop-web metadata.name', becomes: 'shop-web' },
  fullnameOverride: { value: 'web', where: 'Deployment/web metadata.name' },
  commonLabels: { value: { team: 'a' }, where: 'Service metadata.labels.team', becomes: 'a' },
  replicas: { value: 5, where: 'Deployment spec.replicas' },
  'image.repository': { value: 'registry:5000/shop', where: `${APP}.image`, becomes: 'registry:5000/shop:0.1.0' },
  'image.tag': { value: '2.0.0', where: `${APP}.image`, becomes: 'koa-bosun:2.0.0' },
  'image.digest': { value: DIGEST, where: `${APP}.image`, becomes: `koa-bosun@${DIGEST}`, needs: { 'image.tag': '2.0.0' } },
  'image.pullPolicy': { value: 'Always', where: `${APP}.imagePullPolicy` },
  'image.pullSecrets': { value: ['a', { name: 'b' }], where: `${POD}.imagePullSecrets`, becomes: [{ name: 'a' }, { name: 'b' }] },
  'app.module': { value: 'dist/app.js', where: env('APP_MODULE'), becomes: { value: 'dist/app.js' } },
  'app.port': { value: 8080, where: `${APP}.ports.0.containerPort` },
  'app.env': { value: { RETRIES: 3 }, where: env('RETRIES'), becomes: { value: '3' } },
  'app.envFrom': { value: [{ secretRef: { name: 'shop' } }], where: `${APP}.envFrom` },
  'app.imageVolume.reference': { value: 'registry/files:2', where: `${POD}.volumes.1.image.reference` },
  'app.imageVolume.pullPolicy': {
    value: 'Always',
    where: `${POD}.volumes.1.image.pullPolicy`,
    needs: { 'app.imageVolume.reference': 'registry/files:2' },
  },
  'app.imageVolume.subPath': {
    value: 'dist',
    where: `${APP}.volumeMounts.1.subPath`,
    needs: { 'app.imageVolume.reference': 'registry/files:2' },
  },
  'app.imageVolume.mountPath': {
    value: '/opt/shop',
    where: `${APP}.volumeMounts.1.mountPath`,
    needs: { 'app.imageVolume.reference': 'registry/files:2' },
  },
  workers: { value: 3, where: env('NODE_CLUSTER_WORKERS'), becomes: { value: '3' } },
  'resources.requests': { value: { cpu: 2 }, where: `${APP}.resources.requests.cpu`, becomes: '2' },
  'resources.limits': { value: { memory: '1Gi' }, where: `${APP}.resources.limits.memory`, becomes: '1Gi' },
  podResources: { value: { limits: { cpu: '2', memory: '1Gi' } }, where: `${POD}.resources` },
  tmpSize: { value: '2Gi', where: `${POD}.volumes.0.emptyDir.sizeLimit` },
  'shutdown.delaySeconds': { value: 20, where: `${POD}.terminationGracePeriodSeconds`, becomes: 55 },
  'shutdown.timeoutSeconds': { value: 60, where: env('TERMINATION_GRACE_PERIOD_SECONDS'), becomes: { value: '80' } },
  'service.type': { value: 'LoadBalancer', where: 'Service spec.type' },
  'service.port': { value: 8080, where: 'Service spec.ports.0.port' },
  'service.nodePort': { value: 30080, where: 'Service spec.ports.0.nodePort', needs: { 'service.type': 'NodePort' } },
  'service.appProtocol': { value: 'kubernetes.io/h2c', where: 'Service spec.ports.0.appProtocol' },
  'service.trafficDistribution': { value: 'PreferClose', where: 'Service spec.trafficDistribution' },
  'service.externalTrafficPolicy': {
    value: 'Local',
    where: 'Service spec.externalTrafficPolicy',
    needs: { 'service.type': 'LoadBalancer' },
  },
  'service.loadBalancerClass': {
    value: 'internal',
    where: 'Service spec.loadBalancerClass',
    needs: { 'service.type': 'LoadBalancer' },
  },
  'service.annotations': { value: { a: 'true' }, where: 'Service metadata.annotations' },
  ipFamily: { value: 'IPv6', where: 'Service spec.ipFamilies', becomes: ['IPv6'] },
  'ingress.enabled': { value: true, where: 'Ingress spec.rules.0.http.paths.0.path', becomes: '/' },
  'ingress.className': { value: 'nginx', where: 'Ingress spec.ingressClassName', needs: INGRESS },
  'ingress.annotations': { value: { a: '60' }, where: 'Ingress metadata.annotations', needs: INGRESS },
  'ingress.hosts': {
    value: [{ host: 'shop.example.com' }],
    where: 'Ingress spec.rules.0.host',
    becomes: 'shop.example.com',
    needs: INGRESS,
  },
  'ingress.tls': { value: [{ secretName: 'tls', hosts: ['shop.example.com'] }], where: 'Ingress spec.tls', needs: INGRESS },
  'httpRoute.enabled': {
    value: true,
    where: 'HTTPRoute spec.rules.0.backendRefs',
    becomes: [{ group: '', kind: 'Service', name: 'shop-koa-bosun', port: 80, weight: 1 }],
    needs: { 'httpRoute.parentRefs': [{ name: 'gateway' }] },
  },
  'httpRoute.annotations': { value: { a: 'b' }, where: 'HTTPRoute metadata.annotations', needs: ROUTE },
  'httpRoute.parentRefs': { value: [{ name: 'other', namespace: 'infra' }], where: 'HTTPRoute spec.parentRefs', needs: ROUTE },
  'httpRoute.hostnames': { value: ['shop.example.com'], where: 'HTTPRoute spec.hostnames', needs: ROUTE },
  'httpRoute.rules': {
    value: [{ backendRefs: [{ name: 'b', port: 1 }] }],
    where: 'HTTPRoute spec.rules',
    needs: ROUTE,
  },
  trustProxy: { value: true, where: env('TRUST_PROXY'), becomes: { value: 'true' } },
  'autoscaling.mode': { value: 'cpu', where: `${HPA}.metrics.0.type`, becomes: 'ContainerResource' },
  'autoscaling.minReplicas': { value: 2, where: `${HPA}.minReplicas`, needs: CPU },
  'autoscaling.maxReplicas': { value: 30, where: `${KEDA}.maxReplicaCount`, needs: SCALED },
  'autoscaling.cpu.utilization': { value: 50, where: `${HPA}.metrics.0.containerResource.target.averageUtilization`, needs: CPU },
  'autoscaling.custom.metric': { value: 'queue', where: `${HPA}.metrics.0.pods.metric.name`, needs: CUSTOM },
  'autoscaling.custom.target': { value: 30, where: `${HPA}.metrics.0.pods.target.averageValue`, becomes: '30', needs: CUSTOM },
  'autoscaling.keda.serverAddress': { value: 'http://p:9', where: `${KEDA}.triggers.0.metadata.serverAddress`, needs: SCALED },
  'autoscaling.keda.query': { value: 'vector(1)', where: `${KEDA}.triggers.0.metadata.query`, needs: SCALED },
  'autoscaling.keda.threshold': { value: 0.5, where: `${KEDA}.triggers.0.metadata.threshold`, becomes: '0.5', needs: SCALED },
  'autoscaling.behavior': {
    value: { scaleDown: { stabilizationWindowSeconds: 60 } },
    where: `${HPA}.behavior.scaleDown.stabilizationWindowSeconds`,
    becomes: 60,
    needs: CPU,
  },
  'pdb.enabled': { value: false, where: 'PodDisruptionBudget kind', becomes: undefined },
  'pdb.maxUnavailable': { value: '25%', where: 'PodDisruptionBudget spec.maxUnavailable' },
  'pdb.minAvailable': { value: 2, where: 'PodDisruptionBudget spec.minAvailable' },
  'networkPolicy.enabled': { value: true, where: 'NetworkPolicy spec.policyTypes', becomes: ['Ingress', 'Egress'] },
  'networkPolicy.from': { value: PEERS, where: 'NetworkPolicy spec.ingress.0.from', needs: POLICY },
  'networkPolicy.adminFrom': { value: PEERS, where: 'NetworkPolicy spec.ingress.1.from', needs: POLICY },
  'networkPolicy.extraEgress': {
    value: [{ ports: [{ port: 5432 }] }],
    where: 'NetworkPolicy spec.egress.2',
    becomes: { ports: [{ port: 5432 }] },
    needs: POLICY,
  },
  'redis.mode': { value: 'none', where: `${REDIS}.restartPolicy`, becomes: undefined },
  'redis.url': { value: 'redis://r:6380', where: env('REDIS_URL'), becomes: { value: 'redis://r:6380' }, needs: EXTERNAL },
  'redis.existingSecret': {
    value: 'r',
    where: `${REDIS_CONTAINER}.env`,
    becomes: [{ name: 'REDISCLI_AUTH', ...secret('r', 'password') }],
  },
  'redis.username': { value: 'app', where: env('REDIS_USERNAME'), becomes: { value: 'app' }, needs: EXTERNAL },
  'redis.tls': { value: true, where: env('REDIS_TLS'), becomes: { value: 'true' }, needs: SENTINELS },
  'redis.ca.configMap': { value: 'ca', where: `${POD}.volumes.1.configMap.name`, needs: EXTERNAL },
  'redis.ca.secret': { value: 'ca', where: `${POD}.volumes.1.secret.secretName`, needs: EXTERNAL },
  'redis.ca.key': {
    value: 'root.pem',
    where: env('REDIS_CA_FILE'),
    becomes: { value: `${CA}/root.pem` },
    needs: { ...EXTERNAL, 'redis.ca.secret': 'ca' },
  },
  'redis.sentinel.nodes': { value: ['c:26379'], where: env('REDIS_SENTINELS'), becomes: { value: 'c:26379' }, needs: SENTINELS },
  'redis.sentinel.name': {
    value: 'shop',
    where: env('REDIS_SENTINEL_NAME'),
    becomes: { value: 'shop' },
    needs: SENTINELS,
  },
  'redis.sentinel.antiAffinity': {
    value: 'preferred',
    where: `${GROUP}.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.0.weight`,
    becomes: 100,
    needs: THREE,
  },
  'redis.sentinel.resources.requests': {
    value: { cpu: '90m' },
    where: `${GROUP}.containers.0.resources.requests.cpu`,
    becomes: '90m',
    needs: THREE,
  },
  'redis.sentinel.resources.limits': {
    value: { memory: '1Gi' },
    where: `${GROUP}.containers.0.resources.limits.memory`,
    becomes: '1Gi',
    needs: THREE,
  },
  'redis.cluster.nodes': {
    value: ['c-0:6379', 'c-1:6379'],
    where: env('REDIS_CLUSTER_NODES'),
    becomes: { value: 'c-0:6379,c-1:6379' },
    needs: { 'redis.mode': 'cluster', 'redis.cluster.nodes': ['d:6379'] },
  },
  'redis.image.repository': { value: 'mirror/redis', where: `${REDIS_CONTAINER}.image`, becomes: 'mirror/redis:8' },
  'redis.image.tag': { value: '8.2', where: `${REDIS_CONTAINER}.image`, becomes: 'redis:8.2' },
  'redis.image.digest': { value: DIGEST, where: `${REDIS_CONTAINER}.image`, becomes: `redis@${DIGEST}` },
  'redis.image.pullPolicy': { value: 'Always', where: `${REDIS_CONTAINER}.imagePullPolicy` },
  'redis.persistence.enabled': {
    value: false,
    where: `${REDIS}.volumes.1`,
    becomes: { name: 'data', emptyDir: { sizeLimit: '1Gi' } },
  },
  'redis.persistence.storageClass': {
    value: 'fast',
    where: 'StatefulSet/shop-koa-bosun-redis spec.volumeClaimTemplates.0.spec.storageClassName',
  },
  'redis.persistence.size': {
    value: '2Gi',
    where: 'StatefulSet/shop-koa-bosun-redis spec.volumeClaimTemplates.0.spec.resources.requests.storage',
  },
  'redis.resources.requests': { value: { cpu: '100m' }, where: `${REDIS_CONTAINER}.resources.requests.cpu`, becomes: '100m' },
  'redis.resources.limits': { value: { cpu: '2' }, where: `${REDIS_CONTAINER}.resources.limits.cpu`, becomes: '2' },
  'sessions.prefix': { value: 'store', where: env('SERVICE_NAME'), becomes: { value: 'store' } },
  'sessions.keysSecret': { value: 'k', where: env('SESSION_KEYS'), becomes: secret('k', 'keys') },
  'sessions.waitReplicas': { value: 2, where: env('SESSION_WAIT_REPLICAS'), becomes: { value: '2' } },
  'admin.tokenSecret': { value: 't', where: env('ADMIN_TOKEN'), becomes: secret('t', 'token') },
  'monitoring.podMonitor': { value: true, where: 'PodMonitor spec.podMetricsEndpoints.0.port', becomes: 'admin' },
  'monitoring.interval': { value: '30s', where: 'PodMonitor spec.podMetricsEndpoints.0.interval', needs: MONITOR },
  'monitoring.rules': { value: true, where: 'PrometheusRule spec.groups.0.name', becomes: 'koa-bosun' },
  'monitoring.dashboard': { value: true, where: 'ConfigMap/shop-koa-bosun-dashboard kind', becomes: 'ConfigMap' },
  'monitoring.dashboardLabels': {
    value: { grafana: 'yes' },
    where: 'ConfigMap/shop-koa-bosun-dashboard metadata.labels.grafana',
    becomes: 'yes',
    needs: { 'monitoring.dashboard': true },
  },
  'monitoring.labels': { value: { release: 'p' }, where: 'PodMonitor metadata.labels.release', becomes: 'p', needs: MONITOR },
  'serviceAccount.create': { value: false, where: `${POD}.serviceAccountName`, becomes: 'default' },
  'serviceAccount.name': { value: 'web', where: `${POD}.serviceAccountName` },
  'serviceAccount.annotations': { value: { a: 'b' }, where: 'ServiceAccount metadata.annotations' },
  hostUsers: { value: false, where: `${POD}.hostUsers` },
  priorityClassName: { value: 'high', where: `${POD}.priorityClassName` },
  runtimeClassName: { value: 'gvisor', where: `${POD}.runtimeClassName` },
  nodeSelector: { value: { disk: 'ssd' }, where: `${REDIS}.nodeSelector` },
  tolerations: { value: [{ key: 'a', operator: 'Exists' }], where: `${POD}.tolerations` },
  affinity: { value: { podAntiAffinity: {} }, where: `${POD}.affinity` },
  topologySpreadConstraints: {
    value: [{ maxSkew: 2, topologyKey: 'rack', whenUnsatisfiable: 'DoNotSchedule' }],
    where: `${POD}.topologySpreadConstraints.0.maxSkew`,
    becomes: 2,
  },
  annotations: { value: { a: 'b' }, where: 'Deployment metadata.annotations' },
  podAnnotations: { value: { a: 'b' }, where: 'Deployment spec.template.metadata.annotations' },
  podLabels: { value: { team: 'a' }, where: 'Deployment spec.template.metadata.labels.team', becomes: 'a' },
  podSecurityContext: { value: { runAsUser: null }, where: `${POD}.securityContext.runAsUser`, becomes: undefined },
  securityContext: {
    value: { readOnlyRootFilesystem: false },
    where: `${APP}.securityContext.readOnlyRootFilesystem`,
    becomes: false,
  },
  extraVolumes: { value: [{ name: 'a', emptyDir: {} }], where: `${POD}.volumes.1`, becomes: { name: 'a', emptyDir: {} } },
  extraVolumeMounts: {
    value: [{ name: 'a', mountPath: '/a' }],
    where: `${APP}.volumeMounts.1`,
    becomes: { name: 'a', mountPath: '/a' },
  },
  extraContainers: { value: [{ name: 'b', image: 'b' }], where: `${POD}.containers.1`, becomes: { name: 'b', image: 'b' } },
  extraInitContainers: { value: [{ name: 'b', image: 'b' }], where: `${POD}.initContainers` },
  'test.path': {
    value: '/health',
    where: 'Pod/shop-koa-bosun-test spec.containers.0.args.1',
    becomes: 'http://shop-koa-bosun:80/health',
  },
};
