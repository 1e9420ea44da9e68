/**
 * k8s/*.yaml, which `kubectl apply -f k8s` applies, from k8s/overlays/default: one file for each part, in the order of the apply.
 * `make k8s-render` runs this file, and a test holds the files equal to it. kustomize reads no file outside its folder: the dashboard is
 * copied.
 */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { at, K8S, kustomize, type Manifest } from './manifests.ts';

const HEADER = '# Written by `make k8s-render` from k8s/overlays/default: change it there.\n';

interface Part {
  /** The first lines: what deleting it takes along. */
  says: string;
  has: (manifest: Manifest) => boolean;
}

const isRedis = (manifest: Manifest) => at(manifest, 'metadata.name') === 'redis';

/** A manifest is in the first part that has it. */
const FILES: Record<string, Part> = {
  '00-namespace.yaml': {
    says: `# kubectl delete -f k8s deletes this namespace with everything in it: also Secrets made by hand, the sessions in the volume of
# Redis, and whatever else runs there. make k8s-delete keeps the namespace and what others have made in it.
`,
    has: ({ kind }) => kind === 'Namespace',
  },
  '10-network.yaml': {
    says: '# Deleting these opens the admin port to every pod of the cluster, and Redis, which has no password by default.\n',
    has: ({ kind }) => kind === 'NetworkPolicy',
  },
  '20-redis.yaml': {
    says: `# Deleting these ends Redis: pods of the app stay up, and are not ready. The sessions stay in the PersistentVolumeClaim data-redis-0
# until that or the namespace is deleted.
`,
    has: isRedis,
  },
  '30-app.yaml': { says: '# Deleting these ends the app. Sessions stay in Redis.\n', has: () => true },
};

/** The text of each file by its name. */
export function topLevel(): Map<string, string> {
  const documents = kustomize('overlays/default').split(/^---\n/m);
  const partOf = (document: string) => Object.keys(FILES).find(name => FILES[name]?.has(parse(document) as Manifest));
  return new Map(
    Object.entries(FILES).map(([name, { says }]) => [
      name,
      `${HEADER}${says}${documents.filter(document => partOf(document) === name).join('---\n')}`,
    ]),
  );
}

/** The dashboard, and its copy in the component. */
export const DASHBOARD = join(K8S, '..', 'docker', 'grafana', 'dashboard.json');
export const DASHBOARD_COPY = join(K8S, 'components', 'monitoring', 'dashboard.json');

if (import.meta.main) {
  for (const [name, text] of topLevel()) writeFileSync(join(K8S, name), text);
  copyFileSync(DASHBOARD, DASHBOARD_COPY);
}
