/**
 * The manifests of k8s/ as kubectl takes them: those of the folder in the order of their names, and what the overlays render to.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { at, type Manifest } from './rule.ts';

const K8S = join(import.meta.dirname, '..', '..', 'k8s');

/** In the order of `kubectl apply -f k8s`. */
export const FILES = readdirSync(K8S)
  .filter(file => /\.(ya?ml|json)$/.test(file))
  .sort();

/** A new copy each time: tests break it. */
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

/** Why nothing can be rendered here; false where it can. */
export const noKubectl = hasKubectl() ? false : 'no kubectl here';

export function find(manifests: readonly Manifest[], kind: string, name = 'app'): Manifest | undefined {
  return manifests.find(manifest => manifest.kind === kind && at(manifest, 'metadata.name') === name);
}

/** Sets what is at the path, or takes it away where there is no value. */
export function change(manifest: Manifest | undefined, path: string, value: unknown): void {
  const keys = path.split('.');
  const last = keys.pop() ?? '';
  const parent = keys.length > 0 ? at(manifest, keys.join('.')) : manifest;
  if (typeof parent !== 'object' || parent === null) throw new Error(`there must be something to change at ${path}`);
  if (value === undefined) delete (parent as Manifest)[last];
  else (parent as Manifest)[last] = value;
}

function parse(yaml: string): Manifest[] {
  return parseAllDocuments(yaml, { uniqueKeys: true }).map(document => {
    if (document.errors.length > 0) throw new Error(`YAML: ${document.errors.join('; ')}`);
    return document.toJS() as Manifest;
  });
}

function hasKubectl(): boolean {
  try {
    execFileSync('kubectl', ['version', '--client'], { stdio: 'pipe' });
    return true;
  } catch {
    return false; // the skipped tests say so
  }
}
