/**
 * The texts that the chart shares with the components of kustomize and with compose.yaml. A chart takes nothing from outside its folder,
 * `helm package` follows no links, and kustomize puts no file into a PrometheusRule: `make k8s-render` runs this file, which writes the
 * copies, and a test holds them equal.
 */
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CHART } from './chart.ts';
import { at, containersOf, find, K8S, read } from './manifests.ts';

const SENTINEL = 'components/redis-sentinel';
const MONITORING = 'components/monitoring';
const ALERTS = join(K8S, '..', 'docker', 'alerts.yml');
const RULES = join(K8S, MONITORING, 'rules.yaml');
const textOf = (file: string) => readFileSync(join(K8S, file), 'utf8');

/** Each file of k8s/chart/files by its path there, as the components have it. */
export function sharedFiles(): Map<string, string> {
  const redis = find(read('components/redis/redis.yaml'), 'StatefulSet', 'redis');
  const scripts = globSync('*.sh', { cwd: join(K8S, SENTINEL) }).sort();
  return new Map([
    ['redis.sh', String(at(containersOf(redis)[0], 'command.2'))],
    ...scripts.map((name): [string, string] => [`sentinel/${name}`, textOf(`${SENTINEL}/${name}`)]),
    ['dashboard.json', textOf(`${MONITORING}/dashboard.json`)],
    ['rules.yaml', rules()],
  ]);
}

/** The rules of docker/alerts.yml, without the comment before them. */
const rules = () => readFileSync(ALERTS, 'utf8').replace(/^(?:#.*\n)+/, '');

/** The PrometheusRule of the component: its own head, and the rules below spec. */
export function rulesOfComponent(): { file: string; expected: string } {
  const [head] = readFileSync(RULES, 'utf8').split(/^spec:\n/m);
  return { file: RULES, expected: `${head}spec:\n${rules().replace(/^(?=.)/gm, '  ')}` };
}

if (import.meta.main) {
  for (const [name, text] of sharedFiles()) {
    mkdirSync(dirname(join(CHART, 'files', name)), { recursive: true });
    writeFileSync(join(CHART, 'files', name), text);
  }
  const { file, expected } = rulesOfComponent();
  writeFileSync(file, expected);
}
