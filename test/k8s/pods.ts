/**
 * Rules for pods and their containers: rights, limits, names, probes.
 */
import {
  at,
  containerKeeps,
  listAt,
  type Manifest,
  nameOf,
  ofKind,
  PSS,
  podSays,
  type Rule,
  SERVERS,
  WORKLOADS,
} from './rule.ts';

const MIN_ID = 10_000;
const MAX_PORT_NAME = 15;
const LABELS = ['name', 'instance', 'component', 'part-of'].map(name => `app.kubernetes.io/${name}`);

const probesOf = (container: Manifest) =>
  ['startupProbe', 'readinessProbe', 'livenessProbe'].map(name => container[name] as Manifest | undefined);
/** Seconds until the probe acts. */
const patienceOf = (probe: Manifest | undefined) => Number(probe?.periodSeconds) * Number(probe?.failureThreshold);
const hasNo = (value: unknown, ...keys: string[]) => keys.every(key => at(value, key) === undefined);

/** A rule that the pod of each workload must keep. */
function podKeeps(id: string, reason: string, source: string, keeps: (pod: unknown, workload: Manifest) => boolean): Rule {
  const broken = (all: readonly Manifest[]) =>
    ofKind(all, ...WORKLOADS)
      .filter(workload => !keeps(at(workload, 'spec.template.spec'), workload))
      .map(nameOf);
  return { id, reason, source, broken };
}

const serverKeeps = (id: string, reason: string, source: string, keeps: (container: Manifest) => boolean) =>
  containerKeeps(id, reason, source, keeps, SERVERS);

export const POD_RULES: Rule[] = [
  podSays('no-token', 'automountServiceAccountToken', false, 'a stolen pod must not reach the API', 'kube-linter, CIS 5.1.6'),
  podSays('no-service-links', 'enableServiceLinks', false, 'a Service redis would inject REDIS_PORT=tcp://…', 'kubelet'),
  podSays('non-root', 'securityContext.runAsNonRoot', true, 'root in a container is root', PSS),
  podSays('seccomp', 'securityContext.seccompProfile.type', 'RuntimeDefault', 'fewer system calls', PSS),
  podKeeps('high-id', 'low ids are users of the node', 'kube-score container-security-context', pod =>
    ['runAsUser', 'runAsGroup', 'fsGroup'].every(name => Number(at(pod, `securityContext.${name}`)) >= MIN_ID),
  ),
  podKeeps('no-host', 'a pod has nothing of its node', PSS, pod => hasNo(pod, 'hostNetwork', 'hostPID', 'hostIPC', 'hostUsers')),
  podKeeps('small-volumes', 'a full /tmp must not fill the node', 'kube-linter, PSS volume types', pod =>
    listAt(pod, 'volumes').every(volume => at(volume, 'emptyDir.sizeLimit') !== undefined),
  ),
  podKeeps('own-account', 'rights given to default are given to all', 'CIS 5.1.5', pod => {
    return !['default', undefined].includes(at(pod, 'serviceAccountName') as string | undefined);
  }),
  podKeeps('restart-policy', 'what happens after an exit is to be read', 'facts: manifests 15', (pod, { kind }) => {
    return at(pod, 'restartPolicy') === (kind === 'Job' ? 'Never' : 'Always');
  }),
  podKeeps('labels', 'tools find what belongs together by them', 'kubernetes.io, recommended labels', (_pod, workload) =>
    [at(workload, 'metadata.labels'), at(workload, 'spec.template.metadata.labels')].every(labels =>
      LABELS.every(name => (labels as Manifest | undefined)?.[name] !== undefined),
    ),
  ),
  containerKeeps('no-escalation', 'setuid must not give rights', PSS, container => {
    return at(container, 'securityContext.allowPrivilegeEscalation') === false;
  }),
  containerKeeps('no-capabilities', 'none is needed', PSS, container =>
    listAt(container, 'securityContext.capabilities.drop').some(name => String(name) === 'ALL'),
  ),
  containerKeeps('read-only-root', 'what serves strangers does not change itself', 'kube-score', container => {
    return at(container, 'securityContext.readOnlyRootFilesystem') === true;
  }),
  containerKeeps('limits', 'sizing reads the limits', 'kube-score, polaris', container =>
    ['cpu', 'memory', 'ephemeral-storage'].every(name =>
      ['requests', 'limits'].every(kind => at(container, `resources.${kind}.${name}`) !== undefined),
    ),
  ),
  containerKeeps('memory-request', 'memory cannot be taken back', 'kubernetes.io, QoS', container => {
    return at(container, 'resources.requests.memory') === at(container, 'resources.limits.memory');
  }),
  containerKeeps('image-fixed', 'latest is another image tomorrow', 'kube-linter latest-tag', container =>
    /(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})$/.test(String(container.image)),
  ),
  containerKeeps('not-privileged', 'said, not left to a default', 'kube-score', container => {
    return at(container, 'securityContext.privileged') === false && hasNo(container, 'securityContext.procMount');
  }),
  containerKeeps('pull-policy', 'Always would need a registry on a laptop', 'kube-score, waived', container => {
    return container.imagePullPolicy === 'IfNotPresent';
  }),
  containerKeeps('port-names', 'policies, Services and probes name them', 'kube-linter', container => {
    const ports = listAt(container, 'ports');
    const names = ports.map(({ name }) => String(name ?? ''));
    const isFit = ({ containerPort, hostPort }: Manifest) => Number(containerPort) > 1024 && hostPort === undefined;
    const isName = (name: string) => name.length > 0 && name.length <= MAX_PORT_NAME;
    return ports.every(isFit) && names.every(isName) && new Set(names).size === names.length;
  }),
  containerKeeps(
    'env-once',
    'of two variables of one name, an apply keeps either',
    'kube-linter duplicate-env-var',
    container => {
      const names = listAt(container, 'env').map(({ name }) => name);
      return new Set(names).size === names.length;
    },
  ),
  containerKeeps('secret-by-reference', 'manifests are read by many', 'CIS 5.4.1, kube-linter env-var-secret', container =>
    listAt(container, 'env').every(({ name, value }) => value === undefined || !/KEY|PASSW|SECRET|TOKEN|AUTH/.test(String(name))),
  ),
  serverKeeps('three-probes', 'a slow start is no hang', 'kube-score', container =>
    probesOf(container).every(probe => probe?.periodSeconds && probe.timeoutSeconds && probe.failureThreshold),
  ),
  serverKeeps('probes-differ', 'a pod that is not ready must not be restarted', 'kube-score', container => {
    const [, readiness, liveness] = probesOf(container).map(probe => JSON.stringify(probe?.httpGet ?? probe?.exec));
    return readiness !== liveness;
  }),
  serverKeeps('liveness-patient', 'a restart is the last resort', 'facts: manifests 44', container => {
    const [, readiness, liveness] = probesOf(container).map(patienceOf);
    return Number(liveness) >= 3 * Number(readiness);
  }),
  serverKeeps('probe-port', 'a probe names a port of its container', 'kube-linter readiness-port', container =>
    probesOf(container).every(probe => {
      const port = at(probe, 'httpGet.port');
      return port === undefined || listAt(container, 'ports').some(({ name }) => name === port);
    }),
  ),
  serverKeeps(
    'start-without-redis',
    '/startupz waits for Redis; its failure restarts the pod',
    'src/admin/readiness.ts',
    container => at(container, 'startupProbe.httpGet.path') !== '/startupz',
  ),
];
