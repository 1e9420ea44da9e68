/**
 * The manifests of k8s/ as kubectl takes them: those of the folder in the order of their names, and what the overlays render to.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';

const K8S = join(import.meta.dirname, '..', '..', 'k8s');

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

export const OVERLAYS = ['local', 'production', 'monitoring'] as const;

export function render(overlay: (typeof OVERLAYS)[number]): Manifest[] {
  const yaml =
    rendered.get(overlay) ?? execFileSync('kubectl', ['kustomize', join(K8S, 'overlays', overlay)], { encoding: 'utf8' });
  rendered.set(overlay, yaml);
  return parse(yaml);
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

function parse(yaml: string): Manifest[] {
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
export const containersOf = (workload: unknown) => listAt(workload, 'spec.template.spec.containers');

export function find(manifests: readonly Manifest[], kind: string, name = 'app'): Manifest | undefined {
  return manifests.find(manifest => manifest.kind === kind && at(manifest, 'metadata.name') === name);
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
