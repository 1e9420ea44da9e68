/**
 * Rules for `kubectl apply`: the first one works, and another one of the same files changes nothing.
 */
import packageJson from '../../package.json' with { type: 'json' };
import {
  at,
  containerKeeps,
  containersOf,
  kindKeeps,
  listAt,
  type Manifest,
  nameOf,
  ofKind,
  PSS,
  type Rule,
  selects,
  WORKLOADS,
} from './rule.ts';

const NAMESPACE = 'koa-bosun';
const APPLY = 'kubectl apply, three-way patch';
const MODES = ['enforce', 'warn', 'audit'];

/** A rule that each manifest must keep. */
function eachKeeps(id: string, reason: string, source: string, keeps: (manifest: Manifest) => boolean): Rule {
  return { id, reason, source, broken: all => all.filter(manifest => !keeps(manifest)).map(nameOf) };
}

/** Every value of a manifest with the path to it. */
function* valuesOf(value: unknown, path = ''): Generator<[path: string, value: unknown]> {
  yield [path, value];
  if (typeof value !== 'object' || value === null) return;
  for (const [key, part] of Object.entries(value)) yield* valuesOf(part, `${path}.${key}`);
}

const QUANTITY = /\.(requests|limits)\.[\w-]+$|\.(sizeLimit|averageValue)$/;

/** As the server writes it: a whole number with the greatest unit that leaves one. */
function isCanonical(quantity: unknown): boolean {
  const [, digits = '', unit = ''] = /^([1-9]\d*)(m|k|M|G|Ki|Mi|Gi|Ti)?$/.exec(String(quantity)) ?? [];
  return digits !== '' && Number(digits) % (unit.endsWith('i') ? 1024 : 1000) !== 0;
}

export const APPLY_RULES: Rule[] = [
  {
    id: 'namespace-first',
    reason: 'what is applied before its namespace exists fails',
    source: 'kubectl apply -f FOLDER goes by name',
    broken: all => (all[0]?.kind === 'Namespace' ? [] : [`first is ${all[0]?.kind}`]),
  },
  eachKeeps(
    'namespace-field',
    'an object without it lands in the namespace of the current context',
    'kube-linter use-namespace',
    ({ kind, metadata }) => kind === 'Namespace' || at(metadata, 'namespace') === NAMESPACE,
  ),
  kindKeeps('Namespace', 'pod-security', 'refuses pods that are not hardened', PSS, ({ metadata }) => {
    const labels = at(metadata, 'labels') as Manifest | undefined;
    return MODES.every(
      mode =>
        selects({ [`pod-security.kubernetes.io/${mode}`]: 'restricted' }, labels) &&
        /^v1\.\d+$/.test(String(labels?.[`pod-security.kubernetes.io/${mode}-version`])),
    );
  }),
  {
    id: 'once',
    reason: 'of two manifests of one object, each apply undoes the first',
    source: APPLY,
    broken: all => {
      const names = all.map(manifest => `${manifest.apiVersion} ${nameOf(manifest)}`);
      return names.filter((name, index) => names.indexOf(name) !== index);
    },
  },
  eachKeeps('named', 'each apply would make another one', 'kubectl refuses generateName', ({ metadata }) => {
    return typeof at(metadata, 'name') === 'string' && at(metadata, 'generateName') === undefined;
  }),
  eachKeeps('nothing-of-the-server', 'the server says it, and says otherwise', APPLY, ({ metadata, status }) => {
    const own = ['uid', 'resourceVersion', 'creationTimestamp', 'generation', 'managedFields'];
    return status === undefined && own.every(key => at(metadata, key) === undefined);
  }),
  eachKeeps('quantities', 'the server keeps 1 for 1000m, and each apply would write it again', APPLY, manifest =>
    [...valuesOf(manifest)].every(([path, value]) => !QUANTITY.test(path) || isCanonical(value)),
  ),
  // A list without a merge key is compared as a whole: what the server adds to its items must be there.
  kindKeeps('StatefulSet', 'claims-complete', 'another apply would write the claims again', APPLY, set =>
    listAt(set, 'spec.volumeClaimTemplates').every(
      claim =>
        claim.apiVersion === 'v1' &&
        claim.kind === 'PersistentVolumeClaim' &&
        at(claim, 'spec.volumeMode') === 'Filesystem' &&
        at(claim, 'status.phase') === 'Pending',
    ),
  ),
  kindKeeps('NetworkPolicy', 'policies-complete', 'another apply would write the ports again', APPLY, policy =>
    ['ingress', 'egress']
      .flatMap(direction => listAt(policy, `spec.${direction}`))
      .flatMap(passage => listAt(passage, 'ports'))
      .every(({ protocol }) => protocol !== undefined),
  ),
  containerKeeps('image-version', 'a tag that stays is no rollout', 'package.json', ({ image }) => {
    return !String(image).startsWith('koa-bosun:') || image === `koa-bosun:${packageJson.version}`;
  }),
  kindKeeps('Deployment', 'version-label', 'tools show it', 'kubernetes.io, recommended labels', deployment =>
    ['metadata', 'spec.template.metadata'].every(path =>
      selects({ 'app.kubernetes.io/version': packageJson.version }, at(deployment, `${path}.labels`)),
    ),
  ),
  {
    id: 'references',
    reason: 'a pod waits for ever for a ConfigMap or an account that is not there',
    source: 'kube-linter non-existent-service-account',
    broken: all => {
      const has = (kind: string, name: unknown) => ofKind(all, kind).some(({ metadata }) => at(metadata, 'name') === name);
      return ofKind(all, ...WORKLOADS).flatMap(workload => [
        ...(has('ServiceAccount', at(workload, 'spec.template.spec.serviceAccountName')) ? [] : [`${nameOf(workload)}: account`]),
        ...containersOf(workload)
          .flatMap(container => listAt(container, 'envFrom'))
          .filter(source => !has('ConfigMap', at(source, 'configMapRef.name')))
          .map(source => `${nameOf(workload)}: ${JSON.stringify(source)}`),
      ]);
    },
  },
];
