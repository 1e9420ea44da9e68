/**
 * The texts that the chart shares with the components of kustomize. A chart takes nothing from outside its folder, and `helm package`
 * follows no links: `make k8s-render` runs this file, which copies them to k8s/chart/files, and a test holds the copies equal.
 */
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CHART } from './chart.ts';
import { at, containersOf, find, K8S, read } from './manifests.ts';

const SENTINEL = 'components/redis-sentinel';
const MONITORING = 'components/monitoring';
const textOf = (file: string) => readFileSync(join(K8S, file), 'utf8');

/** Each file of k8s/chart/files by its path there, as the components have it. */
export function sharedFiles(): Map<string, string> {
  const redis = find(read('components/redis/redis.yaml'), 'StatefulSet', 'redis');
  const scripts = globSync('*.sh', { cwd: join(K8S, SENTINEL) }).sort();
  return new Map([
    ['redis.sh', String(at(containersOf(redis)[0], 'command.2'))],
    ...scripts.map((name): [string, string] => [`sentinel/${name}`, textOf(`${SENTINEL}/${name}`)]),
    ['dashboard.json', textOf(`${MONITORING}/dashboard.json`)],
    // What is below spec.
    ['rules.yaml', (textOf(`${MONITORING}/rules.yaml`).split('\nspec:\n')[1] ?? '').replace(/^ {2}/gm, '')],
  ]);
}

if (import.meta.main) {
  for (const [name, text] of sharedFiles()) {
    mkdirSync(dirname(join(CHART, 'files', name)), { recursive: true });
    writeFileSync(join(CHART, 'files', name), text);
  }
}
