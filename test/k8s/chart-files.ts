/**
 * The texts that the chart shares with the components of kustomize. A chart takes nothing from outside its folder, and `helm package`
 * follows no links: `make k8s-render` runs this file, which copies them to k8s/chart/files, and a test holds the copies equal.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CHART } from './chart.ts';
import { at, containersOf, find, read } from './manifests.ts';

/** Each file of k8s/chart/files by its name, as the components have it. */
export function sharedFiles(): Map<string, string> {
  const redis = find(read('components/redis/redis.yaml'), 'StatefulSet', 'redis');
  return new Map([['redis.sh', String(at(containersOf(redis)[0], 'command.2'))]]);
}

if (import.meta.main) for (const [name, text] of sharedFiles()) writeFileSync(join(CHART, 'files', name), text);
