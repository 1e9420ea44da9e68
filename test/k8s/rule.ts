/**
 * What a rule is, and what rules are made of: looks into parsed YAML, and the three shapes that most rules have.
 */

/** A part of a manifest: YAML is data of any shape, and a path that is not there is `undefined`. */
export type Manifest = { [key: string]: unknown };

export interface Rule {
  id: string;
  reason: string;
  source: string;
  /** What breaks the rule; empty where nothing does. */
  broken: (manifests: readonly Manifest[]) => string[];
}

/** What has pods; of it, what serves. */
export const WORKLOADS = ['Deployment', 'StatefulSet', 'Job'];
export const SERVERS = ['Deployment', 'StatefulSet'];

/** The value at a path such as `spec.template.spec`. */
export function at(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((part, key) => (part as Manifest | undefined | null)?.[key], value);
}
export const listAt = (value: unknown, path: string) => (at(value, path) ?? []) as Manifest[];
export const nameOf = (manifest: Manifest) => `${manifest.kind} ${at(manifest, 'metadata.name')}`;
export const ofKind = (manifests: readonly Manifest[], ...kinds: string[]) =>
  manifests.filter(({ kind }) => kinds.includes(String(kind)));
export const containersOf = (workload: Manifest) => listAt(workload, 'spec.template.spec.containers');

/** True where every label of the selector is among the labels. */
export function selects(selector: unknown, labels: unknown): boolean {
  const wanted = Object.entries((selector ?? {}) as Manifest);
  return wanted.length > 0 && wanted.every(([key, value]) => (labels as Manifest | undefined)?.[key] === value);
}

/** A rule that each workload's pods must keep: path in the pod's spec, and its value. */
export function podSays(id: string, path: string, value: unknown, reason: string, source: string): Rule {
  const isWrong = (workload: Manifest) => at(workload, `spec.template.spec.${path}`) !== value;
  const broken = (manifests: readonly Manifest[]) =>
    ofKind(manifests, ...WORKLOADS)
      .filter(isWrong)
      .map(workload => `${nameOf(workload)}: ${path} must be ${value}`);
  return { id, reason, source, broken };
}

/** A rule that each container must keep. */
export function containerKeeps(
  id: string,
  reason: string,
  source: string,
  keeps: (container: Manifest) => boolean,
  kinds = WORKLOADS,
): Rule {
  const broken = (manifests: readonly Manifest[]) =>
    ofKind(manifests, ...kinds).flatMap(workload =>
      containersOf(workload)
        .filter(container => !keeps(container))
        .map(container => `${nameOf(workload)}, container ${container.name}`),
    );
  return { id, reason, source, broken };
}

/** A rule that each manifest of a kind must keep. */
export function kindKeeps(
  kind: string,
  id: string,
  reason: string,
  source: string,
  keeps: (manifest: Manifest, all: readonly Manifest[]) => boolean,
): Rule {
  const broken = (all: readonly Manifest[]) =>
    ofKind(all, kind)
      .filter(manifest => !keeps(manifest, all))
      .map(nameOf);
  return { id, reason, source, broken };
}

export const PSS = 'Pod Security Standards, restricted';

/** The workload whose pods a selector means. */
export const podOf = (selector: unknown, all: readonly Manifest[]) =>
  ofKind(all, ...WORKLOADS).find(workload => selects(selector, at(workload, 'spec.template.metadata.labels')));

export const portsOf = (workload: Manifest) => containersOf(workload).flatMap(container => listAt(container, 'ports'));
