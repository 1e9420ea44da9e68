/**
 * Kept connections after a scale-up from one worker to two: how soon the new one gets its share of the requests, with REBALANCE_KEEPALIVE and
 * without, for clients at full speed, clients that think, and behind nginx; and how many connections move afterwards, when nothing changes.
 *   ROUNDS=3 SECONDS=20 ONLY=full,think,nginx make bench-rebalance
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../free-port.ts';
import { RawClient } from '../process/clients.ts';
import { endWithUs } from '../process/processes.ts';
import { until } from '../until.ts';
import { compare } from './machine.ts';
import { type Benchmark, report } from './report.ts';
import type { Figure } from './rounds.ts';
import { Server } from './servers.ts';

/** `uneven`: of ten clients, one is at full speed. */
const LOADS = {
  full: { title: '64 connections at full speed', clients: 64, thinkMs: () => 0, isProxied: false },
  think: { title: '300 connections, 1 s think time', clients: 300, thinkMs: () => 1000, isProxied: false },
  uneven: {
    title: '60 connections, of ten one at full speed',
    clients: 60,
    thinkMs: (n: number) => (n % 10 === 0 ? 0 : 1000),
    isProxied: false,
  },
  nginx: { title: '64 clients at full speed, behind nginx', clients: 64, thinkMs: () => 0, isProxied: true },
} as const;
type LoadName = keyof typeof LOADS;

const ONLY = process.env.ONLY?.split(',') ?? Object.keys(LOADS);
const SUBJECTS = ['REBALANCE_KEEPALIVE=false', 'default'] as const;
const WARM_UP_MS = 3000;
/** The share of the new worker that counts as reached, over so long. */
const REACHED = 0.4;
const WINDOW_MS = 250;
/** Where it is never reached. */
const LONGEST_MS = 5000;

const FIGURES = {
  reached: { unit: `ms to ${REACHED * 100} % of the requests`, kind: 'other', digits: 0 },
  share: { unit: '% of the requests from 0.75 to 1 s', kind: 'other', digits: 0 },
  closes: { unit: 'connections closed', kind: 'other', digits: 0 },
  failed: { unit: 'requests failed', kind: 'other', digits: 0 },
  moved: { unit: 'connections moved in 5 s', kind: 'other', digits: 0 },
  later: { unit: 'moved a minute afterwards', kind: 'other', digits: 1 },
} as const satisfies Record<string, Figure>;

class Clients {
  readonly answers: { at: number; pid: number }[] = [];
  closes = 0;
  failed = 0;
  #isOver = false;
  readonly #running: Promise<unknown>;

  constructor(port: number, { clients, thinkMs }: (typeof LOADS)[LoadName]) {
    this.#running = Promise.all(Array.from({ length: clients }, (_, n) => this.#run(port, thinkMs(n))));
  }

  async #run(port: number, thinkMs: number): Promise<void> {
    let client: RawClient | undefined;
    while (!this.#isOver) {
      try {
        if (client?.isOpen === false) this.closes++;
        if (client?.isOpen !== true) client = await RawClient.open(port);
        const { status, headers, body } = await client.request('/');
        if (status !== 200) throw new Error(String(status));
        this.answers.push({ at: performance.now(), pid: JSON.parse(body).pid });
        if (headers.connection === 'close') this.closes++;
        if (thinkMs > 0) await sleep(-Math.log(1 - Math.random()) * thinkMs);
      } catch {
        this.failed++;
        client?.close();
      }
    }
    client?.close();
  }

  /** Of the answers in that time. */
  shareOf(pid: number, from: number, to: number): number {
    const among = this.answers.filter(({ at }) => at >= from && at < to);
    return among.filter(answer => answer.pid === pid).length / Math.max(1, among.length);
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }
}

/** A proxy that keeps its connections to `port`. */
async function startNginx(port: number): Promise<{ port: number; stop: () => Promise<void> }> {
  const [own, folder] = [await freePort(), mkdtempSync(join(tmpdir(), 'bosun-nginx-'))];
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map(name => `${name}_temp_path ${folder}/${name};`)
    .join(' ');
  const server = `listen 127.0.0.1:${own}; keepalive_requests 1000000000; location / { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://app; }`;
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; user ${userInfo().username}; worker_processes 1; pid ${folder}/pid; error_log stderr error; events { worker_connections 4096; }
     http { access_log off; ${paths} upstream app { server 127.0.0.1:${port}; keepalive 64; keepalive_requests 1000000000; } server { ${server} } }`,
  );
  const child = spawn('nginx', ['-c', join(folder, 'nginx.conf')], { stdio: ['ignore', 'ignore', 'inherit'] });
  endWithUs(child);
  const isUp = async () => {
    const client = await RawClient.open(own).catch(() => undefined);
    client?.close();
    return client;
  };
  await until(isUp, () => 'nginx does not listen');
  return {
    port: own,
    stop: async () => {
      const exited = once(child, 'exit');
      child.kill();
      await exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function scaleUp(load: LoadName, rebalances: boolean, seconds: number): Promise<Record<keyof typeof FIGURES, number>> {
  const server = await Server.start('kit, 2 workers', {
    NODE_CLUSTER_WORKERS: '1',
    APP_MODULE: 'test/fixtures/apps/koa.mjs',
    REBALANCE_KEEPALIVE: String(rebalances),
  });
  await server.firstAnswer();
  const proxy = LOADS[load].isProxied ? await startNginx(server.port) : undefined;
  const clients = new Clients(proxy?.port ?? server.port, LOADS[load]);
  await sleep(WARM_UP_MS);
  const [first] = (await server.status()).workers;
  server.signal('SIGTTIN');
  const joined = await until(
    async () => (await server.status()).workers.find(({ pid, state }) => pid !== first?.pid && state === 'ready'),
    () => 'the second worker is not ready',
  );
  const readyAt = performance.now();
  await sleep(LONGEST_MS);
  const after = await server.status();
  await sleep(seconds * 1000);
  const { moved } = await server.status();
  await clients.stop();
  await proxy?.stop();
  await server.stop();
  const share = (from: number) => clients.shareOf(joined.pid, readyAt + from, readyAt + from + WINDOW_MS);
  let reached = 0;
  while (reached < LONGEST_MS && share(reached) < REACHED) reached += 10;
  return {
    reached: Math.min(LONGEST_MS, reached + WINDOW_MS),
    share: share(1000 - WINDOW_MS) * 100,
    closes: clients.closes,
    failed: clients.failed,
    moved: after.moved,
    later: ((moved - after.moved) * 60) / seconds,
  };
}

export const rebalance: Benchmark = async settings => {
  const comparisons = [];
  for (const load of Object.keys(LOADS) as LoadName[]) {
    if (!ONLY.includes(load)) continue;
    comparisons.push(
      await compare({
        name: `scale-up, ${load}`,
        title: `the second worker after a scale-up, ${LOADS[load].title}`,
        subjects: SUBJECTS,
        baseline: SUBJECTS[0],
        figures: FIGURES,
        rounds: settings.rounds(3),
        ignoresNoise: true,
        measure: subject => scaleUp(load, subject === 'default', settings.seconds(10)),
      }),
    );
  }
  return comparisons;
};

if (import.meta.main) await report([rebalance]);
