/**
 * Follows README.md and docs/guide as a reader would: a bare clone of HEAD, a project beside it with an Express app that existed before, and
 * every command block in its order, each once; what a console block prints is compared by shape (blocks.ts). Ports are free ones in place of 3000 and 9090.
 * Blocks with docker run where an engine answers, those with kubectl where a cluster does; else they are skipped, with the reason.
 * A bare `bosun` is one in a container: it runs in the stack that docker compose has started.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { withEngine } from '../container/engine.ts';
import { Redis } from '../container/redis.ts';
import { freePort } from '../free-port.ts';
import { ROOT, type Status } from '../process/kit.ts';
import { until } from '../until.ts';
import { type Block, blocksOf, changesOf, PAGES, shapeOf, stepsOf } from './blocks.ts';
import { assertSessionsAreShared, Served } from './served.ts';
import { clusterAbsent, shell } from './shell.ts';

const ADOPTION_LIMIT_MS = 300_000;
const SERVES = /^(?:\$ )?(?:make run|npx bosun start)/m;

const blocks = PAGES.flatMap(page => blocksOf(readFileSync(join(ROOT, page), 'utf8')).map(block => ({ ...block, page })));
const here = mkdtempSync(join(tmpdir(), 'bosun-readme-'));
const clone = join(here, 'koa-bosun');
const project = join(here, 'my-app');
const second = join(here, 'second');
/** The adopted app's own. */
const SECRETS = { SESSION_SECRET: 'newest,older' };
/** In place of the reader's my-app, with and without a number. */
const IMAGE = `bosun-readme-app-${process.pid}`;
const times: { what: string; ms: number }[] = [];

let served: Served | undefined;
let isComposeUp = false;
// Not in a hook: it would go with the first test.
const redisUrl = withEngine.skip === false ? `redis://127.0.0.1:${(await Redis.start(undefined)).port}` : undefined;
/** In the project: the machine's own Node.js may be too old for the package. */
const NODE = { PATH: [dirname(process.execPath), process.env.PATH].join(delimiter) };
let local: Record<string, string> = {};
let compose: Record<string, string> = {};

before(async () => {
  const ports = async () => ({ PORT: String(await freePort()), ADMIN_PORT: String(await freePort()) });
  local = { ...(await ports()), HOST: '127.0.0.1', ADMIN_HOST: '127.0.0.1' };
  compose = { ...(await ports()), COMPOSE_PROJECT_NAME: `bosun-readme-${process.pid}` };
  await shell(`git clone --quiet ${ROOT} ${clone}`, here);
  cpSync(join(ROOT, 'test', 'docs', 'my-app'), project, { recursive: true });
  await shell('npm install --loglevel error', project);
  writeFileSync(join(clone, 'session-keys.txt'), 'a key that the reader has set');
  writeFileSync(join(clone, 'compose.override.yaml'), JSON.stringify({ services: { app: { environment: SECRETS } } }));
});

after(async () => {
  await served?.stop();
  if (isComposeUp) await shell('docker compose down --volumes', clone, compose);
  if (withEngine.skip === false) await shell(`docker image rm --force ${IMAGE}`, here);
  rmSync(here, { recursive: true, force: true });
  for (const { what, ms } of times) console.log(`${(ms / 1000).toFixed(1).padStart(7)} s  ${what}`);
});

const commands = blocks.filter(({ language }) => language === 'sh' || language === 'console');
for (const block of commands.filter(({ text }, index) => commands.findIndex(other => other.text === text) === index)) {
  const name = `${block.page}:${block.line}: ${block.text.split('\n', 1)[0]}`;
  test(name, async t => {
    const why = whyNot(block);
    if (why !== undefined) return t.skip(why);
    const startedAt = performance.now();
    if (/^rm -r src\/demo/m.test(block.text)) await inTheDemosPlace(block);
    else if (/^npm install \.\.\/koa-bosun/m.test(block.text)) await asDependency(block, t);
    else if (/^npx koa-bosun init/m.test(block.text)) await containerized(block);
    else if (/^docker build -t my-app/m.test(block.text)) await ownImage(block);
    else if (/docker compose up/.test(block.text)) await composeUp(block);
    else if (/^(?:\$ )?npx bosun dev/m.test(block.text)) await develop(block);
    else if (SERVES.test(block.text)) await serveInClone(block);
    else await inClone(block);
    times.push({ what: name, ms: performance.now() - startedAt });
  });
}

function whyNot({ text }: Block): string | undefined {
  if (/kubectl|k8s-(?:load|apply)|^helm /m.test(text)) return clusterAbsent();
  if (/^\$? ?docker |docker compose|^\$ bosun/m.test(text) && withEngine.skip !== false) return String(withEngine.skip);
  return undefined;
}

async function serve(command: string, cwd: string, env: Record<string, string>): Promise<Served> {
  await served?.stop();
  served = await Served.start(command, cwd, env);
  return served;
}

async function serveInClone(block: Block): Promise<void> {
  const [step] = stepsOf(block);
  assert.ok(step);
  const kit = await serve(step.command, clone, local);
  await kit.assertLogged(step.output);
}

/** Saves a change and a mistake while it runs, in the project that has the kit as a dependency; each event that the page shows is logged. */
async function develop(block: Block): Promise<void> {
  const file = join(project, 'server.js');
  const source = readFileSync(file, 'utf8');
  const [step] = stepsOf(block);
  assert.ok(step);
  const kit = await serve(step.command, project, { ...local, ...NODE });
  if (step.output === '') return;
  writeFileSync(file, `${source}\n// saved`);
  await kit.assertLogged('14:02:36.049 info  dev.reloaded ms=187');
  writeFileSync(file, `${source}\n)`);
  await kit.assertLogged(step.output);
  writeFileSync(file, source);
}

async function inClone(block: Block): Promise<void> {
  for (const { command, output } of stepsOf(block)) {
    const inContainer = command.startsWith('bosun ') || command.startsWith('docker compose');
    const line = command.replace(/^bosun /, 'docker compose exec app bosun ').replaceAll('exec app', 'exec -T app');
    const printed = await shell(inContainer ? line : onOurPorts(command), clone, inContainer ? compose : local);
    if (block.language === 'console') assert.deepEqual(shapeOf(printed), shapeOf(output), command);
  }
}

/** In a copy of the project: the page has other files for it, too. */
async function containerized({ text }: Block): Promise<void> {
  const folder = join(here, 'containerized');
  const env = { ...compose, ...NODE, COMPOSE_PROJECT_NAME: `${compose.COMPOSE_PROJECT_NAME}-init`, APP_IMAGE: IMAGE };
  rmSync(folder, { recursive: true, force: true });
  cpSync(project, folder, { recursive: true });
  writeFileSync(join(folder, '.env'), `SESSION_SECRET=${SECRETS.SESSION_SECRET}\n`);
  const ports = { PORT: String(await freePort()), ADMIN_PORT: String(await freePort()) };
  try {
    await shell(text, folder, { ...env, ...ports });
    assert.equal((await fetch(`http://127.0.0.1:${ports.ADMIN_PORT}/readyz`)).status, 200);
  } finally {
    await shell('docker compose down --volumes', folder, { ...env, ...ports });
  }
}

async function composeUp({ text }: Block): Promise<void> {
  isComposeUp = true;
  const release = /my-app:\d+/;
  await shell(text.replace(release, IMAGE), clone, compose);
  assert.equal((await fetch(`http://127.0.0.1:${compose.ADMIN_PORT}/readyz`)).status, 200);
}

/** The Dockerfile of the same page beside the adopted app, whose package.json names the packed kit outside the build's folder. */
async function ownImage({ page, text }: Block & { page: string }): Promise<void> {
  const dockerfile = blocks.find(block => block.page === page && block.language === 'dockerfile');
  writeFileSync(join(project, 'Dockerfile'), dockerfile?.text ?? '');
  cpSync(join(clone, 'docker', 'app.dockerignore'), join(project, '.dockerignore'));
  const ports = { '3000:3000': await freePort(), '9090:9090': await freePort() };
  const command = Object.entries(ports)
    .reduce((line, [given, port]) => line.replace(given, given.replace(/^\d+/, String(port))), text)
    .replace('docker run', `docker run --detach --name ${IMAGE} -e SESSION_SECRET`)
    .replaceAll(/ my-app(?= |$)/gm, ` ${IMAGE}`);
  try {
    await shell(command, project, SECRETS);
    const answers = async () =>
      (await fetch(`http://127.0.0.1:${ports['9090:9090']}/readyz`).catch(() => undefined))?.ok || undefined;
    await until(answers, () => `${command}: not ready`, 60_000);
    assert.equal((await fetch(`http://127.0.0.1:${ports['3000:3000']}/slow`)).status, 200);
    const status = (await (await fetch(`http://127.0.0.1:${ports['9090:9090']}/status`)).json()) as Status;
    assert.equal(status.workers.length, 2);
  } finally {
    await shell(`docker rm --force ${IMAGE}`, project);
  }
}

/** From the unchanged app to its drain: it takes less than five minutes. */
async function asDependency(block: Block, t: TestContext): Promise<void> {
  await shell('make package', clone);
  const startedAt = performance.now();
  const diff = blocks.find(({ language }) => language === 'diff');
  assert.ok(diff);
  const file = join(project, 'server.js');
  let source = readFileSync(file, 'utf8');
  for (const { before, after } of changesOf(diff)) source = source.replace(before, () => after);
  writeFileSync(file, source);
  await shell('npm install --loglevel error connect-redis redis', project);
  const kit = await serve(block.text, project, { ...local, ...NODE, ...SECRETS, ...(redisUrl && { REDIS_URL: redisUrl }) });
  const { sizing } = await kit.status();
  t.diagnostic(sizing.reason);
  assert.match(sizing.reason, /^\d+ workers?: /);
  if (redisUrl === undefined) t.diagnostic('sessions: not looked at, since no Docker engine runs a Redis');
  else await assertSessionsAreShared(kit, '/count');
  await kit.assertDrains('/slow');
  const ms = performance.now() - startedAt;
  assert.ok(ms < ADOPTION_LIMIT_MS, `adopted after ${ms} ms`);
  times.push({ what: 'an Express app adopted: changed, installed, sized, sessions shared, drained', ms });
}

/** In a clone of its own, since it takes the demo away. */
async function inTheDemosPlace(block: Block): Promise<void> {
  mkdirSync(second);
  await shell(
    `git clone --quiet ${ROOT} ${second}/koa-bosun && cp -R ${project} ${second}/my-app && rm -rf ${second}/my-app/node_modules`,
    here,
  );
  const env = { ...local, ...SECRETS, APP_MODULE: 'src/demo/server.js', ...(redisUrl && { REDIS_URL: redisUrl }) };
  const kit = await serve(block.text, join(second, 'koa-bosun'), env);
  await kit.assertDrains('/slow');
}

/** The ports of what runs: a kit of this machine, otherwise the containers. */
function onOurPorts(command: string): string {
  const { PORT, ADMIN_PORT } = served?.isRunning ? local : compose;
  return command.replace(/:3000\b/g, `:${PORT}`).replace(/:9090\b/g, `:${ADMIN_PORT}`);
}
