/**
 * The manifests of an app: k8s/base and its components as the kit has them, with an overlay of its own; or the Helm chart, with its values.
 */
import { DetectError, type Project } from './detect.ts';
import { overlayFiles, overlayProblems } from './overlay.ts';
import { Edited, KIT_VERSION, template, templatesIn } from './templates.ts';

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
/** The load of rollout.sh is not part of the package. */
const NOT_WRITTEN = [`${MAKE}/rollout.sh`];

/** The components that can be chosen. */
export const COMPONENT_NAMES: readonly string[] = [
  ...new Set(templatesIn(COMPONENTS).map(path => path.split('/')[2] ?? '')),
].filter(name => !/^(README\.md|labels-0\.1\.0)$/.test(name));

/** @throws DetectError */
export const kubernetes = (project: Project): Deployed[] => (project.chart ? chart(project) : kustomize(project));

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
    source: 'src/init/overlay.ts',
    text: text.replaceAll(/make (k8s-\w+) NAME=\S+/g, 'npm run $1'),
  }));
  return [
    ...copied.filter(path => !NOT_WRITTEN.includes(path)).map(path => ({ path, source: path, text: template(path) })),
    ...overlay,
  ];
}

function chart({ name, image, port, redis }: Project): Deployed[] {
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
        .replace('\n  mode: bundled\n', `\n  mode: ${redis ? 'bundled' : 'none'}\n`),
  };
  return templatesIn(CHART).map(path => {
    const edit = edited[path.slice(CHART.length + 1)];
    return { path, source: path, text: edit === undefined ? template(path) : edit(new Edited(template(path))).text };
  });
}

/** npm scripts, by the names of the kit's make targets. */
export function deployScripts({ name, image, namespace, chart }: Project): Record<string, string> {
  const load = `IMAGE=${image} k8s/make/load-image.sh`;
  return chart
    ? {
        'k8s-apply': `helm upgrade --install ${name} ${CHART} --namespace ${namespace} --create-namespace --wait`,
        'k8s-delete': `helm uninstall ${name} --namespace ${namespace}`,
      }
    : { 'k8s-load': load, 'k8s-apply': `NAME=${name} k8s/make/apply.sh`, 'k8s-delete': `NAME=${name} k8s/make/delete.sh` };
}
