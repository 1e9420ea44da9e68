/**
 * The manifests of k8s/ as kubectl takes them: those of the folder in the order of their names, and what the overlays render to.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';

export const K8S = join(import.meta.dirname, '..', '..', 'k8s');

/** A part of a manifest: data of any shape. */
export type Manifest = { [key: string]: unknown };

/** In the order of `kubectl apply -f k8s`. */
export const FILES = readdirSync(K8S)
  .filter(file => /\.(ya?ml|json)$/.test(file))
  .sort();

/** A new copy each time: tests change it. */
export const applied = (): Manifest[] => FILES.flatMap(read);

export function read(file: string): Manifest[] {
  return parse(readFileSync(join(K8S, file), 'utf8'));
}

/** Also those that `make k8s-new` has written. */
export const OVERLAYS = readdirSync(join(K8S, 'overlays'));

/** What a folder of k8s/ renders to: a new copy each time. */
export const render = (folder: string): Manifest[] => parse(kustomize(folder));

/** The text of a rendering: kustomize runs once for each. The folder is one of k8s/, or an absolute path. */
export function kustomize(folder: string): string {
  const yaml = rendered.get(folder) ?? execFileSync('kubectl', ['kustomize', resolve(K8S, folder)], { encoding: 'utf8' });
  rendered.set(folder, yaml);
  return yaml;
}

const rendered = new Map<string, string>();

/** Why nothing can be rendered here; false if it can. */
export const noKubectl = hasKubectl() ? false : 'no kubectl here';

function hasKubectl(): boolean {
  try {
    execFileSync('kubectl', ['version', '--client'], { stdio: 'pipe' });
    return true;
  } catch {
    return false; // reported by the skipped tests
  }
}

/** The documents of a YAML text. */
export function parse(yaml: string): Manifest[] {
  return parseAllDocuments(yaml, { uniqueKeys: true }).map(document => {
    if (document.errors.length > 0) throw new Error(`YAML: ${document.errors.join('; ')}`);
    return document.toJS() as Manifest;
  });
}

/** The value at a path such as `spec.template.spec`; undefined if it is missing. */
export function at(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((part, key) => (part as Manifest | undefined | null)?.[key], value);
}
export const listAt = (value: unknown, path: string) => (at(value, path) ?? []) as Manifest[];
export type Manifests = readonly Manifest[];
export const ofKind = (all: Manifests, ...kinds: string[]) => all.filter(({ kind }) => kinds.includes(String(kind)));
export const workloads = (all: Manifests) => ofKind(all, 'Deployment', 'StatefulSet', 'Job');
export const COMPONENT = 'app.kubernetes.io/component';
export const INSTANCE = 'app.kubernetes.io/instance';
export const NAME = 'app.kubernetes.io/name';
/** Of a workload's pods. */
export const labelsOf = (workload: unknown) => at(workload, 'spec.template.metadata.labels') as Manifest | undefined;
export const portsOf = (workload: unknown) => containersOf(workload).flatMap(container => listAt(container, 'ports'));
export const containersOf = (workload: unknown) => listAt(workload, 'spec.template.spec.containers');

/** Labels that Kubernetes gives each pod of a StatefulSet. */
const OF_ONE_POD = ['statefulset.kubernetes.io/pod-name', 'apps.kubernetes.io/pod-index'];

/** True if the selector is not empty and every label of it is among the labels, but for the one that picks a pod of a StatefulSet. */
export function selects(selector: unknown, labels: unknown): boolean {
  const wanted = Object.entries((selector ?? {}) as Manifest).filter(([key]) => !OF_ONE_POD.includes(key));
  return wanted.length > 0 && wanted.every(([key, value]) => (labels as Manifest | undefined)?.[key] === value);
}

/** A ConfigMap is found without the hash at the end of its name. */
export function find(manifests: readonly Manifest[], kind: string, name = 'app'): Manifest | undefined {
  const plain = (manifest: Manifest) =>
    String(at(manifest, 'metadata.name')).replace(manifest.kind === 'ConfigMap' ? /-[a-z0-9]{10}$/ : /$/, '');
  return manifests.find(manifest => manifest.kind === kind && [at(manifest, 'metadata.name'), plain(manifest)].includes(name));
}

/** Sets the value at the path, or removes it if there is no value. */
export function change(manifest: unknown, path: string, value: unknown): void {
  const keys = path.split('.');
  const last = keys.pop() ?? '';
  const parent = keys.length > 0 ? at(manifest, keys.join('.')) : manifest;
  if (typeof parent !== 'object' || parent === null) throw new Error(`there must be something to change at ${path}`);
  if (value === undefined) delete (parent as Manifest)[last];
  else (parent as Manifest)[last] = value;
}
