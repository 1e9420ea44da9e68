/**
 * One pool for each policy, through everything that this project promises to survive, repeatedly: rolling restarts under mixed load,
 * kills, floods of connections on both ports, a Redis that stops, freezes or breaks the protocol, and versions of the app that do not start.
 * Only requests open on a killed worker may be lost, and the primary's memory and open files stay level.
 * SOAK_ROLLS (20) rolls for each policy; POLICIES chooses fewer policies.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { readyPids } from '../process/capacity.ts';
import { request } from '../process/clients.ts';
import { APPS, CLEAN, type Kit, ROOT } from '../process/kit.ts';
import { freshLoad, keepAliveLoad, type Load, pipelineLoad, uploadLoad } from '../process/loads.ts';
import { namedLoad } from '../process/named-load.ts';
import { type Operated, startOperated, temporaryFolder } from '../process/operator.ts';
import { LocalRedis } from '../process/redis.ts';
import { until } from '../until.ts';

const ROLLS = Number(process.env.SOAK_ROLLS ?? 20);
const POLICIES = process.env.POLICIES?.split(',') ?? ['least-connections', 'rr', 'none', 'reuseport', 'response-time'];
const WORKERS = 2;
/** Far more than the tests' own limits: a roll under full load takes 6 to 10 s. */
const LOAD_BOUNDS = { mostRequests: 1e8, longestMs: ROLLS * 120_000 };
const KILL_CLIENTS = 8;
const FLOOD_CONNECTIONS = 700;
const FLOOD_MS = 1500;
/** Of each process; a flood on the admin port must leave the primary enough to fork. */
const OPEN_FILES = 800;
/** Versions of the app that do not start: each must leave the old workers serving. */
const BROKEN = {
  throws: `throw new Error('this version throws while it loads')`,
  'does not parse': 'export default (',
  'misses a module': `import 'a-module-that-does-not-exist'`,
  'exports nothing': 'export const app = 1',
  exits: 'process.exit(3)',
  'never loads': 'await new Promise(resolve => setTimeout(resolve, 600_000))',
};
/** Violations of Redis' protocol: an array of negative length, an unexpected reply, an unknown type. */
const NONSENSE = [
  '*-5\r\n',
  '$-7\r\nabc\r\n',
  ':\r\n',
  '!\x00\xff\r\n',
  '>3\r\n$7\r\nmessage\r\n_\r\n_\r\n',
  `${'['.repeat(5000)}\r\n`,
];

interface Soaked extends Operated {
  redis: LocalRedis;
  /** What APP_MODULE names. */
  app: string;
}

type Disturbance = (pool: Soaked) => Promise<void>;

const disturbances: Record<string, Disturbance> = {
  kill: killEachWorker,
  flood,
  'Redis stops': async ({ redis }) => {
    await redis.stop();
    await pause(2000);
    await redis.startAgain();
  },
  'Redis freezes': async ({ redis }) => {
    redis.freeze();
    await pause(2000);
    redis.thaw();
  },
  'Redis talks nonsense': talkNonsense,
  'broken versions': tryBrokenVersions,
};

for (const policy of POLICIES) {
  test(`${ROLLS} rolls, kills, floods, broken Redis and broken versions on one pool lose nothing, policy ${policy}`, async t => {
    const pool = await startPool(policy);
    const { kit, port, bosun } = pool;
    const samples: { rssMb: number; files: number }[] = [];
    const answeredBy: Record<string, number> = {};
    const lost: string[] = [];
    for (let roll = 1; roll <= ROLLS; roll++) {
      const [name, disturb] = Object.entries(disturbances)[roll % Object.keys(disturbances).length] ?? [];
      assert.ok(name !== undefined && disturb !== undefined);
      // Requests open on a killed worker are lost: those kills have a load of their own, which knows the worker of each lost connection.
      if (name === 'kill') await disturb(pool);
      const loads = startLoads(port);
      after(() => stopAll(loads));
      const restarted = await bosun('restart');
      assert.equal(restarted.code, 0, `${restarted.stdout}${restarted.stderr}\n${kit.transcript()}`);
      if (name !== 'kill') await disturb(pool);
      for (const [load, { answered, failures, refused }] of Object.entries(await stopAll(loads))) {
        answeredBy[load] = (answeredBy[load] ?? 0) + answered;
        lost.push(...failures.map(why => `roll ${roll}, ${name}, ${load}: ${why}`));
        if (refused > 0) lost.push(`roll ${roll}, ${name}, ${load}: ${refused} connections refused`);
      }
      assert.deepEqual(lost, [], kit.transcript());
      await healthy(pool);
      samples.push(sampleOf(kit.pid));
      t.diagnostic(`roll ${roll}, ${name}: ${JSON.stringify(samples.at(-1))}`);
    }
    const answered = Object.values(answeredBy).reduce((sum, count) => sum + count, 0);
    t.diagnostic(`${policy}: ${answered} requests answered, ${lost.length} lost; ${JSON.stringify(answeredBy)}`);
    assertLevel(samples);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
}

async function startPool(policy: string): Promise<Soaked> {
  const app = join(temporaryFolder(), 'app.mjs');
  writeFileSync(app, goodVersion());
  const redis = await LocalRedis.start();
  after(() => redis.stop());
  const env = {
    APP_MODULE: app,
    NODE_CLUSTER_WORKERS: String(WORKERS),
    NODE_CLUSTER_SCHED_POLICY: policy,
    REDIS_URL: redis.url,
    SESSION_KEYS: 'a key of the soak',
    WORKER_START_TIMEOUT_MS: '5000',
  };
  const limited = `ulimit -n ${OPEN_FILES}; exec "${process.execPath}" "${join(ROOT, 'src', 'main.ts')}"`;
  return { ...(await startOperated({ command: ['/bin/sh', '-c', limited], env })), redis, app };
}

const goodVersion = () => `export { default } from ${JSON.stringify(join(APPS, 'soak.mjs'))};\n`;

function startLoads(port: number): Record<string, Load> {
  return {
    'keep-alive': keepAliveLoad(port, { clients: 4, pauseMs: 0, ...LOAD_BOUNDS }),
    slow: keepAliveLoad(port, { clients: 8, pauseMs: 0, path: '/slow?ms=500', ...LOAD_BOUNDS }),
    fresh: freshLoad(port, { everyMs: 10, ...LOAD_BOUNDS }),
    upload: uploadLoad(port, LOAD_BOUNDS),
    pipeline: pipelineLoad(port, LOAD_BOUNDS),
  };
}

async function stopAll(loads: Record<string, Load>) {
  return Object.fromEntries(
    await Promise.all(Object.entries(loads).map(async ([name, load]) => [name, await load.stop()] as const)),
  );
}

/** One after the other; a worker that was not killed loses nothing. */
async function killEachWorker({ kit, port }: Soaked): Promise<void> {
  const load = namedLoad(port, KILL_CLIENTS);
  const killed = new Set<number>();
  for (const pid of await readyPids(kit)) {
    process.kill(pid, 'SIGKILL');
    killed.add(pid);
    await whole(kit, killed);
  }
  await load.stop();
  const ofTheLiving = load.losses.filter(({ pid }) => pid !== undefined && !killed.has(pid));
  assert.deepEqual(ofTheLiving, [], 'a request of a worker that lived was lost');
  assert.ok(load.losses.length <= killed.size * KILL_CLIENTS, JSON.stringify(load.losses));
}

async function whole(kit: Kit, without: ReadonlySet<number> = new Set()): Promise<void> {
  await until(
    async () => (await readyPids(kit)).filter(pid => !without.has(pid)).length === WORKERS || undefined,
    () => `the pool is not whole: ${kit.transcript()}`,
    60_000,
  );
}

/** Silent connections, on the app's port and on the admin port. */
async function flood({ kit, port, bosun }: Soaked): Promise<void> {
  const sockets = [port, kit.adminPort].flatMap(to => Array.from({ length: FLOOD_CONNECTIONS }, () => idle(to)));
  const until = performance.now() + FLOOD_MS;
  const restarting = bosun('restart');
  while (performance.now() < until) assert.equal((await kit.probe('/livez')).status, 200);
  const { code, stdout, stderr } = await restarting;
  assert.equal(code, 0, `a restart beside a flood: ${stdout}${stderr}`);
  for (const socket of sockets) socket.destroy();
}

const idle = (port: number): Socket => connect(port, '127.0.0.1').on('error', () => undefined);

/** In Redis' place, a server that accepts and sends malformed answers. */
async function talkNonsense({ redis, port }: Soaked): Promise<void> {
  await redis.stop();
  let count = 0;
  const sockets = new Set<Socket>();
  const server = createServer(socket => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('data', () => void socket.write(NONSENSE[count++ % NONSENSE.length] ?? '', 'latin1'));
  }).listen(redis.port, '127.0.0.1');
  const statuses = new Set<number>();
  const until = performance.now() + 3000;
  while (performance.now() < until) {
    statuses.add((await request(port, '/session')).status);
    await pause(50);
  }
  for (const socket of sockets) socket.destroy();
  await new Promise(resolve => server.close(resolve));
  await redis.startAgain();
  assert.ok(count > 0, 'somebody has requested');
  assert.deepEqual([...statuses], [503], 'a session route answers 503 meanwhile');
}

async function tryBrokenVersions({ bosun, app, kit }: Soaked): Promise<void> {
  const before = await readyPids(kit);
  // Twice: more failed starts in a row than RESTART_INTENSITY.
  for (const [name, source] of [...Object.entries(BROKEN), ...Object.entries(BROKEN)]) {
    writeFileSync(app, source);
    const { code, stdout } = await bosun('restart');
    assert.notEqual(code, 0, `a version that ${name} is refused: ${stdout}`);
    assert.deepEqual(await readyPids(kit), before, `the old workers serve beside a version that ${name}`);
  }
  writeFileSync(app, goodVersion());
}

/** Serves with all its workers, and its sessions work. */
async function healthy({ kit, port }: Soaked): Promise<void> {
  await whole(kit);
  await until(
    async () => (await request(port, '/session')).status === 200 || undefined,
    () => `sessions do not work again: ${kit.transcript()}`,
  );
  // The transcript is no longer needed, and 200 rolls would fill this process.
  kit.events.splice(0, Math.max(0, kit.events.length - 500));
}

function sampleOf(pid: number): { rssMb: number; files: number } {
  const kib = Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  return { rssMb: Math.round(kib / 1024), files: readdirSync(`/proc/${pid}/fd`).length };
}

/** The second half needs no more than the first: caches are full by then, while a leak goes on. */
function assertLevel(samples: readonly { rssMb: number; files: number }[]): void {
  const half = samples.length >> 1;
  const [first, second] = [samples.slice(0, half), samples.slice(half)];
  const most = (of: typeof first, name: 'rssMb' | 'files') => Math.max(...of.map(sample => sample[name]));
  if (first.length < Object.keys(disturbances).length) return; // too short to compare
  assert.ok(most(second, 'files') <= most(first, 'files') + 8, `open files grow: ${JSON.stringify(samples)}`);
  assert.ok(most(second, 'rssMb') <= most(first, 'rssMb') * 1.2 + 8, `the primary grows: ${JSON.stringify(samples)}`);
}
