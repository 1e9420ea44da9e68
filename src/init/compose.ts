/**
 * compose.yaml and compose.dev.yaml of an app: those of the kit, with the app's name, image, port and files, and without Redis where it is not used.
 */
import { posix } from 'node:path';
import type { Project } from './detect.ts';
import { inImage, kitInImage, outputsOf } from './dockerfile.ts';
import { below } from './package-json.ts';
import { Edited, KIT_VERSION, template } from './templates.ts';

/** The kit's image in the kit's own files. */
const OWN_IMAGE = `koa-bosun:${KIT_VERSION}`;
/** Comes first, where the kit's own file explains its clone. */
const HEAD = `# docker compose up --build --wait
#   app    http://127.0.0.1:PORT     admin  http://127.0.0.1:9090
# docker compose --profile observability up: also Prometheus, 127.0.0.1:9091, and Grafana, 127.0.0.1:3001 (nobody logs in)
# Tune it through the environment: NODE_CLUSTER_WORKERS=4 APP_CPUS=4 docker compose up
`;

export function compose(project: Project): string {
  const { name, image, port, redis } = project;
  const own = new Edited(template('compose.yaml'))
    .withoutHead()
    .replace('name: koa-bosun\n', `name: ${name}\n`)
    .replace(OWN_IMAGE, image)
    .replace('      context: .\n', `      context: ${posix.relative(project.folder, '.') || '.'}\n`)
    .replace('dockerfile: docker/Dockerfile\n', `dockerfile: ${below(project.folder, 'Dockerfile')}\n`)
    .replace(
      `      APP_MODULE: \${APP_MODULE:-}\n`,
      `      # These win over .env, which is that of this machine.\n      NODE_ENV: production\n      HOST: ""\n      PORT: "${port}"\n`,
    )
    .replace(
      '    environment:\n      # These',
      '    # What else the app needs, such as SESSION_SECRET.\n    env_file: [{ path: .env, required: false }]\n    environment:\n      # These',
    )
    .replace(`\${PORT:-3000}:3000`, `\${PORT:-${port}}:${port}`)
    .replace('/app/docker/healthcheck.mjs', `${kitInImage(project)}/docker/healthcheck.mjs`);
  const watched = own.replace(watchOf(own.text), watch(project));
  return HEAD.replace('PORT', String(port)) + (redis ? watched : withoutRedis(watched)).text;
}

/** @returns undefined if `bosun dev` cannot load the sources: a save builds the image again */
export function composeForDevelopment({ image, entry }: Project): string | undefined {
  if (entry.source === undefined) return undefined;
  return new Edited(template('compose.dev.yaml')).replace(OWN_IMAGE, image).text;
}

/** The section `develop` of a compose file. */
function watchOf(text: string): string {
  const [section] = /^ {4}#[^\n]*\n {4}develop:\n(?: {6}.*\n)+/m.exec(text) ?? [];
  if (section === undefined) throw new Error('the template must have a section develop');
  return section;
}

function watch(project: Project): string {
  const { entry, folder, packages, manager, kit } = project;
  const lock = manager.lockFile === undefined ? [] : [manager.lockFile];
  const rebuilt = [...packages.map(each => below(each, 'package.json')), ...lock, below(folder, 'Dockerfile')];
  const unwatched = ['**/node_modules', '.git', ...outputsOf(project)];
  const rule = (action: string, path: string, ignored: readonly string[]) =>
    `        - { action: ${action}, path: ${posix.relative(folder, path) || '.'}${ignored.length === 0 ? '' : `, ignore: ${JSON.stringify(ignored)}`} }`;
  const rules =
    entry.source === undefined
      ? ['    # A save builds the image again: docker compose watch', rule('rebuild', '.', unwatched)]
      : [
          '    # A save reloads the app, by bosun dev: docker compose -f compose.yaml -f compose.dev.yaml watch',
          rule('sync', '.', [...unwatched, ...rebuilt, ...kit.tarballs]).replace(', path', `, target: ${inImage('.')}, path`),
          ...rebuilt.map(path => rule('rebuild', path, [])),
        ];
  const [comment = '', ...lines] = rules;
  return `${[comment, '    develop:', '      watch:', ...lines].join('\n')}\n`;
}

function withoutRedis(edited: Edited): Edited {
  return edited
    .without('      REDIS_URL:')
    .without('    depends_on:')
    .without('  redis:')
    .without('  inside:')
    .without('volumes:')
    .replace('networks: [outside, inside]', 'networks: [outside]');
}
