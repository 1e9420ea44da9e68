/**
 * Three pods behind HAProxy whose PostgreSQL is stopped, or frozen, for SOAK_OUTAGE_MS (60,000): routes that do not need it fail nobody, and
 * the pods notice its return. With `readiness: true` they leave and come back, and a short outage takes out none.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, cpSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { GenericContainer, type StartedNetwork, Wait } from 'testcontainers';
import type { App } from '../container/app.ts';
import { Balancer } from '../container/balancer.ts';
import { docker, engine, removeContainerAtEnd, startNetwork, uniqueName, withEngine } from '../container/engine.ts';
import { startApps } from '../container/pods.ts';
import { request } from '../process/clients.ts';
import { freshLoad, keepAliveLoad } from '../process/loads.ts';
import { temporaryFolder } from '../process/operator.ts';
import { until } from '../until.ts';

const FILES = join(import.meta.dirname, 'database');
const OUTAGE_MS = Number(process.env.SOAK_OUTAGE_MS ?? 60_000);
/** Below three intervals of a check. */
const SHORT_OUTAGE_MS = 12_000;
/** An interval of a check, its jitter, and what a busy machine is late by. */
const NOTICED_MS = 20_000;
const BOUNDS = { longestMs: 10 * 60_000, mostRequests: 1_000_000 };
const LIMIT = { ...withEngine, timeout: 1_800_000 };

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;

/** PostgreSQL in a container, `database` on the network of the pods. */
class Database {
  readonly #name = uniqueName();

  async start(network: StartedNetwork): Promise<void> {
    const image = await docker(['build', '--quiet', '-f', join(FILES, 'postgres.Dockerfile'), FILES]);
    removeContainerAtEnd(this.#name);
    await new GenericContainer(image)
      .withName(this.#name)
      .withNetwork(network)
      .withNetworkAliases('database')
      .withWaitStrategy(Wait.forAll([]))
      .start();
    await this.#answers();
  }

  /** Resolves when it takes queries. */
  async #answers(): Promise<void> {
    const query = docker.bind(undefined, ['exec', this.#name, 'psql', '-h', '127.0.0.1', '-c', 'SELECT 1', 'postgres']);
    await until(
      () =>
        query().then(
          () => true,
          () => undefined,
        ),
      () => 'PostgreSQL does not answer',
      60_000,
    );
  }

  readonly outages: Record<'stopped' | 'frozen', { begin: () => Promise<void>; end: () => Promise<void> }> = {
    stopped: {
      begin: async () => void (await docker(['stop', this.#name])),
      end: async () => {
        await docker(['start', this.#name]);
        await this.#answers();
      },
    },
    frozen: {
      begin: async () => void (await docker(['pause', this.#name])),
      end: async () => void (await docker(['unpause', this.#name])),
    },
  };
}

/** Three pods of the app behind a balancer, with their database. */
async function startFleet(readiness: boolean) {
  await engine();
  const network = await startNetwork();
  const database = new Database();
  await database.start(network);
  const folder = temporaryFolder();
  chmodSync(folder, 0o755); // the user of the image reads it
  for (const file of ['package.json', 'package-lock.json', 'app.mjs']) cpSync(join(FILES, file), join(folder, file));
  await promisify(execFile)('npm', ['ci', '--no-audit', '--no-fund'], { cwd: folder });
  const pods = await startApps(network, 3, {
    env: {
      REDIS_URL: '',
      APP_MODULE: '/srv/app.mjs',
      DATABASE_URL: 'postgres://postgres@database/postgres',
      READINESS: String(readiness),
      SESSION_KEYS: 'a key of the soak test, of all pods',
    },
    mounts: { '/srv': folder },
    pod: true,
  });
  const balancer = await Balancer.start(network);
  for (const app of pods) await balancer.add(app);
  for (const app of pods) await balancer.serving(app);
  return { database, pods, balancer };
}

/** Resolves with the time when each pod has logged its n-th `name`, in milliseconds since `from`. */
async function logged(pods: readonly App[], name: string, n: number, from: number): Promise<number[]> {
  return Promise.all(
    pods.map(async app => {
      await until(
        () => app.all(name).length >= n || undefined,
        () => `${name} expected ${n} times; ${app.transcript()}`,
        OUTAGE_MS,
      );
      return performance.now() - from;
    }),
  );
}

/** Clients of routes that need no database, on kept and on new connections. */
const clientsOf = ({ port }: Balancer) => [
  keepAliveLoad(port.ingress, { path: '/', pauseMs: 20, ...BOUNDS }),
  freshLoad(port.service, { path: '/', everyMs: 50, ...BOUNDS }),
];

async function stopped(t: TestContext, what: string, loads: ReturnType<typeof clientsOf>): Promise<void> {
  const results = await Promise.all(loads.map(load => load.stop()));
  const answered = results.reduce((sum, result) => sum + result.answered, 0);
  const failures = results.flatMap(result => result.failures);
  t.diagnostic(`${what}: ${answered} requests answered, ${failures.length} failed`);
  assert.ok(answered > 1000, String(answered));
  assert.deepEqual(failures, []);
}

test('three pods whose database is unreachable fail no request that does not need it', LIMIT, async t => {
  const { database, pods, balancer } = await startFleet(false);
  let outages = 0;
  for (const [name, { begin, end }] of Object.entries(database.outages)) {
    outages++;
    const loads = clientsOf(balancer);
    const from = performance.now();
    await begin();
    const noticed = await logged(pods, 'health.failing', outages, from);
    while (performance.now() - from < OUTAGE_MS) {
      for (const app of pods) {
        assert.equal(await balancer.waysTo(app), 3);
        const { status, body } = await app.probe('/readyz');
        assert.equal(status, 200);
        assert.match(body, /check database: /);
      }
      await pause(2000);
    }
    assert.notEqual((await request(balancer.port.ingress, '/rows')).status, 200);
    await end();
    const back = performance.now();
    const [rows, passing] = await Promise.all([
      until(
        async () => ((await request(balancer.port.ingress, '/rows')).status === 200 ? performance.now() - back : undefined),
        () => 'no rows',
      ),
      logged(pods, 'health.passing', outages, back),
    ]);
    t.diagnostic(
      `${name}: noticed after ${noticed.map(seconds)}; rows after ${seconds(rows)}, all checks pass after ${passing.map(seconds)}`,
    );
    assert.ok(Math.max(...passing) < NOTICED_MS, String(passing));
    await stopped(t, name, loads);
  }
  assert.deepEqual(
    pods.flatMap(app => app.all('health.unready')),
    [],
  );
});

test(
  'pods with readiness leave while their database is unreachable, and come back at once; a short outage takes out none',
  LIMIT,
  async t => {
    const { database, pods, balancer } = await startFleet(true);
    const { begin, end } = database.outages.stopped;
    const loads = clientsOf(balancer);
    await begin();
    await pause(SHORT_OUTAGE_MS);
    await end();
    await logged(pods, 'health.passing', 1, performance.now());
    await stopped(t, `an outage of ${seconds(SHORT_OUTAGE_MS)}`, loads);
    assert.deepEqual(
      pods.flatMap(app => app.all('health.unready')),
      [],
    );

    const from = performance.now();
    await begin();
    const left = await logged(pods, 'health.unready', 1, from);
    for (const app of pods) await balancer.left(app);
    // The roll is not held up, and no new worker makes the pod ready.
    assert.equal((await pods[0].exec('bosun', 'restart')).exitCode, 0);
    assert.equal((await pods[0].probe('/readyz')).status, 503);
    await pause(Math.max(0, OUTAGE_MS - (performance.now() - from)));
    await end();
    const back = performance.now();
    const ready = await logged(pods, 'health.ready', 1, back);
    for (const app of pods) await balancer.serving(app);
    t.diagnostic(`unready after ${left.map(seconds)}, ready again ${ready.map(seconds)} after the database`);
    assert.ok(Math.max(...ready) < NOTICED_MS, String(ready));
    assert.equal((await request(balancer.port.ingress, '/rows')).status, 200);
  },
);
