/**
 * Rules for single manifests, as JSON Schema by kind. The sources are the restricted Pod Security Standard, and what kube-linter,
 * kube-score and the CIS benchmark check; neither tool can be had from npm or Debian.
 */
import packageJson from '../../package.json' with { type: 'json' };
import { absent, atLeast, each, is, matches, object, Policy, present, type Schema, some } from '../policy.ts';

const { version } = packageJson;
const literal = (text: string) => text.replaceAll('.', '\\.');
const LABEL = 'app.kubernetes.io';

/** Nothing that the server adds: another apply of the same file changes nothing. */
const anyKind = object({
  metadata: { allOf: [object({ name: present() }), { propertyNames: { enum: ['name', 'namespace', 'labels', 'annotations'] } }] },
  status: absent(),
});
/** Without a namespace, an object lands in the one of the current context. */
const namespaced = object({ metadata: object({ namespace: present() }) });

const labelled = object({
  labels: object(Object.fromEntries(['instance', 'component', 'part-of'].map(name => [`${LABEL}/${name}`, present()]))),
});

/** Ids below 10,000 may be users of the node. */
const id = () => atLeast(10_000);
const podSecurity = object({
  runAsNonRoot: is(true),
  seccompProfile: object({ type: { enum: ['RuntimeDefault', 'Localhost'] } }),
  runAsUser: id(),
  runAsGroup: id(),
  fsGroup: id(),
});

const quantities = object({ cpu: present(), memory: present(), 'ephemeral-storage': present() });
/** Sizing reads the limits; memory cannot be taken back, so its request is its limit. */
const resources = object({
  limits: quantities,
  requests: { allOf: [quantities, object({ memory: { const: { $data: '2/limits/memory' } } })] },
});

const container = object(
  {
    image: matches(new RegExp(`^koa-bosun:${literal(version)}$|^(?!koa-bosun:).*(:(?!latest$)[\\w.-]+|@sha256:[0-9a-f]{64})$`)),
    imagePullPolicy: { enum: ['IfNotPresent', 'Always'] },
    resources,
    securityContext: object({
      allowPrivilegeEscalation: is(false),
      privileged: is(false),
      readOnlyRootFilesystem: is(true),
      procMount: absent(),
      capabilities: object({ drop: is(['ALL']), add: absent() }),
    }),
    ports: each(object({ name: { ...matches(/^[a-z-]+$/), maxLength: 15 }, containerPort: atLeast(1025), hostPort: absent() })),
    env: each({
      if: object({ name: matches(/KEY|PASSW|SECRET|TOKEN|AUTH/) }),
      // biome-ignore lint/suspicious/noThenProperty: JSON Schema's keyword
      then: object({ value: absent() }),
    }),
  },
  ['ports', 'env'],
);

/** Those that the restricted Pod Security Standard allows, without the outdated ones. */
const VOLUMES = [
  'name',
  'emptyDir',
  'configMap',
  'secret',
  'projected',
  'downwardAPI',
  'persistentVolumeClaim',
  'ephemeral',
  'csi',
  'image',
];

const pod = object(
  {
    serviceAccountName: { not: { const: 'default' } },
    automountServiceAccountToken: is(false),
    enableServiceLinks: is(false), // a Service named redis would inject REDIS_PORT=tcp://…
    securityContext: podSecurity,
    volumes: each({
      allOf: [{ propertyNames: { enum: VOLUMES } }, object({ emptyDir: object({ sizeLimit: present() }) }, ['emptyDir'])],
    }),
    containers: each(container),
  },
  ['volumes'],
);

/** A workload whose pods keep to `pod`, with more rules for itself, its pods, and their containers. */
const workload = (spec: Record<string, Schema>, ofPod: Record<string, Schema>, ofContainer: Record<string, Schema>): Schema => ({
  allOf: [
    namespaced,
    object({
      metadata: labelled,
      spec: object({
        ...spec,
        template: object({
          metadata: labelled,
          spec: { allOf: [pod, object({ ...ofPod, containers: each(object(ofContainer)) }, ['affinity'])] },
        }),
      }),
    }),
  ],
});

/** A slow start must not look like a hang: three probes, each with its numbers. */
const probe = object({ periodSeconds: present(), timeoutSeconds: present(), failureThreshold: present() });
const probes = { startupProbe: probe, readinessProbe: probe, livenessProbe: probe };
/** Redis answers while it loads its data. */
const dataProbes = { readinessProbe: probe, livenessProbe: probe };

const spread = (topologyKey: string) => some(object({ topologyKey: is(topologyKey), maxSkew: is(1) }));
const resizable = (resourceName: string) => some(object({ resourceName: is(resourceName), restartPolicy: is('NotRequired') }));

const deployed = workload(
  {
    minReadySeconds: atLeast(5),
    progressDeadlineSeconds: { minimum: 60, maximum: 600 },
    revisionHistoryLimit: atLeast(1),
    strategy: object({ rollingUpdate: object({ maxSurge: is(1), maxUnavailable: is(0) }) }),
    // It can never be changed: no version in it.
    selector: object({ matchLabels: { propertyNames: { pattern: literal(`^${LABEL}/(name|instance|component)$`) } } }),
  },
  {
    topologySpreadConstraints: {
      allOf: [
        spread('kubernetes.io/hostname'),
        spread('topology.kubernetes.io/zone'),
        each(object({ whenUnsatisfiable: present() })),
      ],
    },
    affinity: object({ podAntiAffinity: object({ requiredDuringSchedulingIgnoredDuringExecution: absent() }) }),
  },
  {
    lifecycle: absent(), // a preStop hook would count against the grace period
    ...probes,
    // /startupz waits for Redis, and its failure would restart the pod.
    startupProbe: { allOf: [probe, object({ httpGet: object({ path: { not: { const: '/startupz' } } }) })] },
    resizePolicy: { allOf: [resizable('cpu'), resizable('memory')] },
  },
);

/** A list without a merge key is compared as a whole: another apply would write again what the server adds to its items. */
const claims = each(
  object({
    apiVersion: is('v1'),
    kind: is('PersistentVolumeClaim'),
    spec: object({ volumeMode: is('Filesystem') }),
    status: object({ phase: is('Pending') }),
  }),
);
const passages = each(object({ ports: each(object({ protocol: present() })) }, ['ports']));

const enforced = (mode: string) => ({
  [`pod-security.kubernetes.io/${mode}`]: is('restricted'),
  [`pod-security.kubernetes.io/${mode}-version`]: matches(/^v1\.\d+$/),
});

export const POLICY = new Policy({
  anyKind,
  Namespace: object({
    metadata: object({ labels: object({ ...enforced('enforce'), ...enforced('warn'), ...enforced('audit') }) }),
  }),
  ServiceAccount: namespaced,
  ConfigMap: namespaced,
  Deployment: deployed,
  // Two would be two stores; three elect one of them.
  StatefulSet: workload({ replicas: { enum: [1, 3] }, volumeClaimTemplates: claims }, {}, dataProbes),
  Job: workload({}, { restartPolicy: is('Never') }, {}),
  Service: {
    allOf: [
      namespaced,
      // Traffic from outside comes through an Ingress or a Gateway; the admin port is for probes and Prometheus.
      object({
        spec: object({ type: is('ClusterIP'), ports: each(object({ targetPort: { not: { const: 'admin' } } })) }, ['type']),
      }),
    ],
  },
  // A pod that is not ready must not block the drain of its node.
  PodDisruptionBudget: {
    allOf: [namespaced, object({ spec: object({ maxUnavailable: is(1), unhealthyPodEvictionPolicy: is('AlwaysAllow') }) })],
  },
  HorizontalPodAutoscaler: {
    allOf: [
      namespaced,
      object({
        spec: object({
          minReplicas: atLeast(2), // above the disruption budget
          maxReplicas: { minimum: { $data: '1/minReplicas' } },
          behavior: object({ scaleDown: object({ stabilizationWindowSeconds: atLeast(300) }) }),
        }),
      }),
    ],
  },
  NetworkPolicy: {
    allOf: [namespaced, object({ spec: object({ ingress: passages, egress: passages }, ['ingress', 'egress']) })],
  },
});
