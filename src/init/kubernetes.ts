/**
 * The manifests of an app: k8s/base and its components as the kit has them, with an overlay of its own; or the Helm chart, with its values.
 */
import { DetectError, type Project } from './detect.ts';
import { overlayFiles, overlayProblems } from './overlay.ts';
import { Edited, KIT_HOME, KIT_VERSION, template, templatesIn } from './templates.ts';

export interface Deployed {
  path: string;
  /** The kit's file that it is made of. */
  source: string;
  text: string;
}

const BASE = 'k8s/base';
const COMPONENTS = 'k8s/components';
const CHART = 'k8s/chart';
const MAKE = 'k8s/make';
const LOAD_IMAGE = `${MAKE}/load-image.sh`;
/** The load of rollout.sh is not part of the package. */
const NOT_WRITTEN = [`${MAKE}/rollout.sh`];

/** The components that can be chosen; the selectors of 0.1.0 go with its names. */
export const COMPONENT_NAMES: readonly string[] = [
  ...new Set(templatesIn(COMPONENTS).map(path => path.split('/')[2] ?? '')),
].filter(name => !/^(README\.md|labels-0\.1\.0)$/.test(name));

/** @throws DetectError */
export const kubernetes = (project: Project): Deployed[] =>
  (project.chart ? chart(project) : kustomize(project)).map(file => ({ ...file, text: elsewhere(file.text) }));

/** The kit's make targets are npm scripts of the app, and its pages are on the web. */
const elsewhere = (text: string): string =>
  text
    .replaceAll(/make k8s-new IMAGE=(?=\w)/g, 'npx koa-bosun init --image ')
    .replaceAll(/make k8s-new( [A-Z]+=[^\s"]+)*/g, 'npx koa-bosun init')
    .replaceAll(/make (k8s-\w+)( (NAME|IMAGE)=[^\s"]+)?/g, 'npm run $1')
    .replaceAll(/\bdocs\/guide\/[\w-]+\.md/g, `${KIT_HOME}/blob/main/$&`);

function kustomize({ name, image, namespace, port, components }: Project): Deployed[] {
  const settings = { name, image, namespace, port, components };
  const problems = overlayProblems(settings, COMPONENT_NAMES);
  if (problems.length > 0) throw new DetectError(problems.join('; '));
  const copied = [
    ...templatesIn(BASE),
    ...templatesIn(MAKE),
    ...components.flatMap(component => templatesIn(`${COMPONENTS}/${component}`)),
  ];
  const overlay = Object.entries(overlayFiles(settings)).map(([file, text]) => ({
    path: `k8s/overlays/${name}/${file}`,
    source: 'an overlay',
    text,
  }));
  return [
    ...copied.filter(path => !NOT_WRITTEN.includes(path)).map(path => ({ path, source: path, text: template(path) })),
    ...overlay,
  ];
}

function chart({ name, image, port, redis, components }: Project): Deployed[] {
  const [, repository = image, tag = '', digest = ''] = /^(.*?)(?::([^/:@]+))?(?:@(.+))?$/.exec(image) ?? [];
  const edited: Readonly<Record<string, (text: Edited) => Edited>> = {
    'Chart.yaml': text =>
      text
        .replace('name: koa-bosun\n', `name: ${name}\n`)
        .replace(`appVersion: ${KIT_VERSION}`, `appVersion: "${tag || KIT_VERSION}"`),
    'values.yaml': text =>
      text
        .replace('\n  repository: koa-bosun\n', `\n  repository: ${repository}\n`)
        .replace('\n  digest: ""\n', `\n  digest: "${digest}"\n`)
        .replace('\n  port: 3000\n', `\n  port: ${port}\n`)
        .replace('\n  mode: bundled\n', `\n  mode: ${redisMode(redis, components)}\n`)
        .replace(
          '\nnetworkPolicy:\n  enabled: false\n',
          `\nnetworkPolicy:\n  enabled: ${components.includes('network-policy')}\n`,
        ),
  };
  return [...templatesIn(CHART), LOAD_IMAGE].map(path => {
    const edit = edited[path.slice(CHART.length + 1)];
    return { path, source: path, text: edit === undefined ? template(path) : edit(new Edited(template(path))).text };
  });
}

/** Of the chart, as the components have it. */
function redisMode(redis: boolean, components: readonly string[]): string {
  if (components.includes('redis-sentinel')) return 'sentinel';
  return components.includes('external-redis') ? 'external' : redis ? 'bundled' : 'none';
}

/** npm scripts, by the names of the kit's make targets. */
export function deployScripts({ name, image, namespace, chart }: Project): Record<string, string> {
  const load = { 'k8s-load': `IMAGE=${image} ${LOAD_IMAGE}` };
  return chart
    ? {
        ...load,
        'k8s-apply': `helm upgrade --install ${name} ${CHART} --namespace ${namespace} --create-namespace --wait`,
        'k8s-delete': `helm uninstall ${name} --namespace ${namespace}`,
      }
    : { ...load, 'k8s-apply': `NAME=${name} k8s/make/apply.sh`, 'k8s-delete': `NAME=${name} k8s/make/delete.sh` };
}
