/** What `bosun init` says of a project, before and after it writes. */
import type { Project, Use } from '../init/detect.ts';
import { isOutside, vendored } from '../init/dockerfile.ts';
import { factsOf } from '../init/package-manager.ts';
import { guide, KIT_VERSION } from '../init/templates.ts';

const USE_NOTES: Readonly<Record<Use, string | undefined>> = {
  sessions: `Sessions: with several workers they must be in Redis or in a cookie, not in memory (${guide('sessions.md')}).`,
  'express-session': `express-session keeps sessions in the memory of one worker: it needs a store, such as connect-redis (${guide('adopt.md')}#sessions-of-an-express-app).`,
  redis: undefined,
  websockets: `WebSockets: close them when a worker drains; with several workers, Socket.IO needs its WebSocket transport alone (${guide('adopt.md')}).`,
};

/** What was found, so that a wrong guess is seen. */
export function summaryOf({ name, image, framework, entry, manager, node, port, redis, folder }: Project): string[] {
  const build = entry.build === undefined ? 'no build' : `built by ${factsOf(manager).run(entry.build.script)}`;
  const from = node.from === undefined ? '' : ` (${node.from})`;
  return [
    `${name}: ${framework}${folder === '.' ? '' : ` in ${folder}`}, module ${entry.module}, ${build}, ${manager.name}${manager.version === undefined ? '' : ` ${manager.version}`}, ` +
      `Node.js ${node.major}${from}, image ${image}, port ${port}, ${redis ? 'with Redis' : 'without Redis'}`,
  ];
}

/** What is left to do, and what may be wrong. */
export function notesOf({ kit, manager, node, uses, redis, entry, chart, namespace }: Project, isKept: boolean): string[] {
  const { add, run } = factsOf(manager);
  return [
    ...(kit.spec === undefined ? [`koa-bosun must be among the dependencies: ${add(`koa-bosun@^${KIT_VERSION}`)}`] : []),
    ...(kit.isDevelopment
      ? ['koa-bosun must be among the dependencies, not the devDependencies: the image has no other packages']
      : []),
    ...(/^(?:file|link|workspace|portal):/.test(kit.spec ?? '') && !/gz$/.test(kit.spec ?? '')
      ? [
          `koa-bosun is installed as ${kit.spec}, a folder that an image build cannot read: run make package there, and install the file that it packs`,
        ]
      : []),
    ...kit.tarballs
      .filter(isOutside)
      .map(path => `${path} is outside the repository: the image uses its copy ${vendored(path)}; commit that`),
    ...(manager.lockFile === undefined ? ['There is no lock file: commit one, so that every image has the same packages'] : []),
    ...(node.refused === undefined
      ? []
      : [
          `The project needs Node.js ${node.refused} (${node.from}), where koa-bosun does not run: the image has Node.js ${node.major}`,
        ]),
    ...uses.flatMap(use => USE_NOTES[use] ?? []),
    ...(entry.source === undefined
      ? [
          'bosun dev cannot load the TypeScript sources without tsx, @swc-node/register or ts-node: docker compose watch builds the image again',
        ]
      : []),
    ...(entry.build === undefined && /ts$/.test(entry.module)
      ? ['TypeScript is served without a build: a loader that it needs, such as tsx, must be among the dependencies']
      : []),
    ...(redis ? [] : ['Without Redis: bosun init --redis adds it']),
    ...(isKept ? ['Files that were kept may not fit the others: compare them with bosun init --dry-run --force'] : []),
    '',
    'Next:',
    '  docker compose up --build --wait       the app, on this machine',
    `  ${run('k8s-apply').padEnd(39)}in a cluster that has the image${chart ? ', by Helm' : `, and the namespace ${namespace} (kubectl create namespace ${namespace})`}`,
    '  bosun upgrade --check                  after an update of koa-bosun: shows what has changed in its templates',
  ];
}
