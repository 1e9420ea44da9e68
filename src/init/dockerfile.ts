/**
 * The Dockerfile of an app: its packages and its build by its own package manager, then a runtime stage as the kit's own image has it.
 */
import { posix } from 'node:path';
import type { Project } from './detect.ts';
import { OBSERVABILITY } from './observability.ts';
import { below } from './package-json.ts';
import { factsOf } from './package-manager.ts';
import { Edited, instruction, template } from './templates.ts';

export const TEMPLATE = 'docker/Dockerfile';
/** The repository in the image. */
const APP = '/app';
/** Where tarballs from elsewhere are copied to. */
export const VENDOR = 'vendor';

/** Settings of package managers, which name registries and their tokens: none is part of the image. */
const SECRETS = ['.npmrc', '.yarnrc', '.yarnrc.yml', 'bunfig.toml'];

/** A path of the repository in the image. */
export const inImage = (path: string): string => posix.resolve(APP, path);
export const kitInImage = ({ kit }: Project): string => inImage(kit.folder);
export const isOutside = (path: string): boolean => path.startsWith('../') || posix.isAbsolute(path);
/** Where a tarball lies in the repository, once the files are written. */
export const vendored = (tarball: string): string => (isOutside(tarball) ? below(VENDOR, posix.basename(tarball)) : tarball);

export function dockerfile(project: Project): string {
  const { entry, node } = project;
  const stages = [
    `ARG NODE_IMAGE=node:${node.major}-trixie-slim`,
    manifests(project),
    dependencies(project),
    ...(entry.source === undefined && entry.build === undefined
      ? []
      : [`# With what builds and tests need.\nFROM manifests AS packages\n${installing(project, 'install')}`]),
    ...(entry.source === undefined ? [] : [development(project, entry.source)]),
    files(project),
    runtime(project),
  ];
  return `${stages.join('\n\n')}\n`;
}

function manifests(project: Project): string {
  const { manager, packages, kit, settings } = project;
  const { source, cache } = factsOf(manager);
  const lock = manager.lockFile === undefined ? [] : [manager.lockFile];
  const files = settings.filter(path => !isFolder(path));
  return [
    '# What the packages follow from: another change installs nothing again.',
    `FROM \${NODE_IMAGE} AS manifests`,
    ...(source === undefined
      ? []
      : [`RUN --mount=type=cache,target=/root/.npm npm install --global --force ${source}@${manager.version}`]),
    // It would otherwise put packages where only its own loader finds them.
    ...(manager.name === 'berry' ? ['ENV YARN_NODE_LINKER=node-modules YARN_ENABLE_GLOBAL_CACHE=true'] : []),
    ...(manager.name === 'pnpm' ? [`ENV CI=true npm_config_store_dir=${cache}`] : []),
    `WORKDIR ${APP}`,
    `COPY ${['package.json', ...lock, ...files].join(' ')} ./`,
    ...settings.filter(isFolder).map(path => `COPY ${path} ./${path}/`),
    ...packages.filter(folder => folder !== '.').map(folder => `COPY ${folder}/package.json ./${folder}/`),
    ...kit.tarballs.map(path => `COPY ${vendored(path)} ${posix.dirname(inImage(path))}/`),
    ...(project.lifecycle.needsSources ? ['# The scripts that run at an install may need any file.', 'COPY . .'] : []),
  ].join('\n');
}

const isFolder = (path: string) => /(^|\/)(patches|plugins|releases)$/.test(path);

function dependencies(project: Project): string {
  const secrets = project.settings.filter(path => SECRETS.includes(path));
  const tarballs = project.kit.tarballs.filter(path => !isOutside(path)).map(inImage);
  return [
    '# What production needs.',
    'FROM manifests AS dependencies',
    installing(project, 'production'),
    ...(secrets.length === 0 ? [] : [`# They may hold tokens.\nRUN rm -f ${secrets.join(' ')}`]),
    ...(tarballs.length === 0 ? [] : [`# They are installed.\nRUN rm -f ${tarballs.join(' ')}`]),
  ].join('\n');
}

function installing({ manager, workspace, lifecycle }: Project, which: 'install' | 'production'): string {
  const facts = factsOf(manager);
  const command = facts[which](manager.lockFile !== undefined, workspace);
  // npm and others run `prepare` of the project, which often starts a development package, such as husky.
  const prepared = lifecycle.prepare ? `npm pkg delete scripts.prepare && ${command}` : command;
  return `RUN --mount=type=cache,target=${facts.cache} ${prepared}`;
}

function development(project: Project, source: string): string {
  return [
    '# For docker compose watch (compose.dev.yaml), which copies files into the container as the user, by name.',
    'FROM packages AS dev',
    'COPY --chown=node:node . .',
    `WORKDIR ${inImage(project.folder)}`,
    `ENV PORT=${project.port} ${path(project)}`,
    'USER node',
    'ENTRYPOINT []',
    `CMD ["bosun", "dev", "${source}"]`,
  ].join('\n');
}

/** The files of the app as the image has them: built, if they are, and without what only this machine or the build needs. */
function files({ entry, manager, workspace, kit }: Project): string {
  const { run, runIn } = factsOf(manager);
  const script = entry.build?.script;
  const tarballs = kit.tarballs.map(path => inImage(vendored(path)));
  const unneeded = ['node_modules', ...SECRETS].map(name => `-name ${name}`).join(' -o ');
  return [
    `FROM ${script === undefined ? 'manifests' : 'packages'} AS build`,
    'COPY . .',
    ...(script === undefined ? [] : [`RUN ${workspace === undefined ? run(script) : runIn(workspace, script)}`]),
    '# The packages for production are those of the stage dependencies; settings may hold tokens.',
    `RUN find ${APP} \\( ${unneeded} \\) -prune -exec rm -rf {} +${tarballs.length === 0 ? '' : ` && rm -f ${tarballs.join(' ')}`}`,
  ].join('\n');
}

function runtime(project: Project): string {
  const { entry, folder, port } = project;
  const own = template(TEMPLATE);
  const kit = kitInImage(project);
  const tail = ['EXPOSE', 'STOPSIGNAL', 'HEALTHCHECK', 'ENTRYPOINT']
    .map(start => instruction(own.slice(own.indexOf('AS runtime')), start))
    .join('\n');
  return [
    `FROM \${NODE_IMAGE} AS runtime`,
    instruction(own, 'RUN rm -rf /usr/local/lib/node_modules'),
    `WORKDIR ${inImage(folder)}`,
    `ENV NODE_ENV=production \\\n    PORT=${port} \\\n    APP_MODULE=${entry.module} \\\n    ${path(project)}`,
    `COPY --from=dependencies ${APP} ${APP}`,
    `COPY --from=build ${APP} ${APP}`,
    instruction(own.slice(own.indexOf('AS runtime')), 'USER'),
    new Edited(tail).replace('EXPOSE 3000 ', `EXPOSE ${port} `).replace('/app/docker/', `${kit}/docker/`).text,
    `CMD ["node", "${kit}/dist/main.js"]`,
  ].join('\n');
}

/** For `bosun` in a container, and what the project has. */
const path = ({ kit }: Project) => `PATH=${inImage(below(posix.dirname(kit.folder), '.bin'))}:$PATH`;

/** The folder that the build writes; others of the usual names may hold sources. */
export function outputsOf({ entry, folder }: Project): string[] {
  return entry.build === undefined ? [] : [below(folder, entry.module.replace(/\/.*$/, ''))];
}

/** Keeps history, secrets, packages and build outputs of this machine out of an image. */
export function dockerignore(project: Project): string {
  const own = new Edited(template('docker/app.dockerignore')).withoutHead().text;
  const rest = [
    '# An image does not depend on them.',
    ...outputsOf(project),
    ...OBSERVABILITY.map(path => below(project.folder, path)),
    '.github',
    'k8s',
    'compose*.yaml',
    'Dockerfile',
    '.dockerignore',
    '.bosun.json',
  ];
  return `${own.trimEnd()}\n${rest.join('\n')}\n`;
}
