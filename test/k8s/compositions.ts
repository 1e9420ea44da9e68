/**
 * Overlays as `make k8s-new` writes them, rendered together by one run of kustomize: each in a namespace of its own, below one
 * kustomization, as somebody does who deploys several apps at once.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { type OverlaySettings, overlayFiles, overlayProblems } from '../../src/init/overlay.ts';
import { at, K8S, kustomize, type Manifest, parse } from './manifests.ts';

export const COMPONENTS = readdirSync(join(K8S, 'components'), { withFileTypes: true })
  .filter(entry => entry.isDirectory())
  .map(entry => entry.name);

/** The manifests of each namespace. */
export function renderTogether(overlays: readonly OverlaySettings[]): Map<string, Manifest[]> {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-overlays-'));
  try {
    for (const overlay of overlays) {
      const own = join(folder, folderOf(overlay));
      mkdirSync(own);
      const files = overlayFiles({ k8s: relative(own, K8S), ...overlay });
      for (const [name, text] of Object.entries(files)) writeFileSync(join(own, name), text);
    }
    // Vars of one name cannot be in one kustomization twice: those with keda are rendered each on its own.
    const alone = overlays.filter(({ components = [] }) => components.includes('keda'));
    const together = overlays.filter(overlay => !alone.includes(overlay)).map(folderOf);
    writeFileSync(join(folder, 'kustomization.yaml'), JSON.stringify({ resources: together }));
    const all = [folder, ...alone.map(overlay => join(folder, folderOf(overlay)))].flatMap(one => parse(kustomize(one)));
    const namespaceOf = (manifest: Manifest) =>
      at(manifest, manifest.kind === 'Namespace' ? 'metadata.name' : 'metadata.namespace');
    return new Map(overlays.map(({ namespace }) => [namespace, all.filter(manifest => namespaceOf(manifest) === namespace)]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const folderOf = ({ namespace, name }: OverlaySettings) => `${namespace}-${name}`;

/** Not for a new overlay: the selectors of 0.1.0 go with its names. */
export const CHOICES = COMPONENTS.filter(component => component !== 'labels-0.1.0');

/**
 * Every component alone, and as few overlays as hold every two that one overlay may have: for each two that are in none yet, one with them
 * and as many others as go together.
 */
export function compositions(): OverlaySettings[] {
  const isValid = (components: readonly string[]) => overlayProblems(settingsOf(components, 0), COMPONENTS).length === 0;
  const found: string[][] = CHOICES.map(component => [component]);
  for (const first of CHOICES) {
    for (const second of CHOICES) {
      if (first === second || !isValid([first, second])) continue;
      if (found.some(one => one.includes(first) && one.includes(second))) continue;
      const all = [first, second];
      for (const next of CHOICES) if (!all.includes(next) && isValid([...all, next])) all.push(next);
      found.push(all);
    }
  }
  return found.map(settingsOf);
}

const settingsOf = (components: readonly string[], index: number): OverlaySettings => ({
  name: `shop${index}`,
  image: 'registry/shop:2.0.0',
  namespace: `team-${index}`,
  components,
});
