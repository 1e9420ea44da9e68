/**
 * Which files a project gets, with their text. Pure but for the templates, which are the kit's own files.
 */
import { compose, composeForDevelopment } from './compose.ts';
import type { Project } from './detect.ts';
import { dockerfile, dockerignore, isOutside, TEMPLATE, vendored } from './dockerfile.ts';
import type { Files } from './files.ts';
import { deployScripts, kubernetes } from './kubernetes.ts';
import { OBSERVABILITY } from './observability.ts';
import { below } from './package-json.ts';
import { header } from './record.ts';
import { scriptsOf, withScripts, workflow } from './scripts.ts';
import { KIT_VERSION, template } from './templates.ts';

export type Planned =
  /** Text of a template. */
  | { kind: 'file'; path: string; text: string; isExecutable: boolean }
  /** A file of the project with something added to it, which is no overwriting. */
  | { kind: 'addition'; path: string; text: string; scripts?: Readonly<Record<string, string>> }
  /** A copy of a file from elsewhere. */
  | { kind: 'copy'; path: string; from: string }
  /** Of a file that was written earlier, and has no use any more. */
  | { kind: 'removal'; path: string };

interface Earlier {
  /** What was written into package.json: it follows, unless it has been edited. */
  scripts?: Readonly<Record<string, string>>;
  /** Also what has been edited. */
  force?: boolean;
}

/** @throws Error if a template of the kit lacks what the plan changes in it */
export function plan(project: Project, files: Files, { scripts: recorded, force }: Earlier = {}): Planned[] {
  const { folder } = project;
  const file = (path: string, source: string, text: string, place = folder): Planned => ({
    kind: 'file',
    path: below(place, path),
    text: hasHeader(path) ? header(KIT_VERSION, source) + text : text,
    isExecutable: text.startsWith('#!'),
  });
  const development = composeForDevelopment(project);
  const manifest = below(folder, 'package.json');
  const scripts = { ...scriptsOf(project), ...deployScripts(project) };
  // BuildKit reads the ignore file of the root, or the one that is named after the Dockerfile.
  const ignore = folder === '.' ? '.dockerignore' : 'Dockerfile.dockerignore';
  const pipeline = folder === '.' ? 'image' : `image-${project.name}`;
  const ignored = below(folder, '.gitignore');
  const isFirst = Object.keys(recorded ?? {}).length === 0;
  return [
    ...(isFirst && !isIgnored(files, folder)
      ? [{ kind: 'addition', path: ignored, text: withEnv(files.read(ignored)) } as const]
      : []),
    ...project.kit.tarballs.filter(isOutside).map((from): Planned => ({ kind: 'copy', path: vendored(from), from })),
    file('Dockerfile', TEMPLATE, dockerfile(project)),
    file(ignore, 'docker/app.dockerignore', dockerignore(project)),
    file('compose.yaml', 'compose.yaml', compose(project)),
    ...(development === undefined ? [] : [file('compose.dev.yaml', 'compose.dev.yaml', development)]),
    ...OBSERVABILITY.map(path => file(path, path, template(path))),
    ...kubernetes(project).map(({ path, source, text }) => file(path, source, text)),
    file(`.github/workflows/${pipeline}.yml`, 'bosun init', workflow(project), '.'),
    {
      kind: 'addition',
      path: manifest,
      text: withScripts(files.read(manifest) ?? '{}', scripts, recorded, force),
      scripts,
    },
  ];
}

/** Whether git leaves out .env, which compose.yaml reads, and which may have secrets. */
const isIgnored = (files: Files, folder: string) =>
  [...new Set(['.', folder])].some(place => /^(\*\*)?\/?\.env\*?\s*$/m.test(files.read(below(place, '.gitignore')) ?? ''));
const withEnv = (text = '') => `${text === '' || text.endsWith('\n') ? text : `${text}\n`}.env\n`;

/** Not JSON, nor a script, whose first line has a meaning; nor the templates of a chart, where it would be part of what they render. */
const hasHeader = (path: string) => !/\.(json|sh|md)$|\/templates\//.test(path);
