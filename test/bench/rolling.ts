/**
 * Rolling restarts under mixed load: what fails (nothing may), what a roll costs in throughput, and what it does to latency. In rounds of
 * ten rolls, one after the other without a pause, each compared with the quiet seconds before it: what else the machine does changes
 * from minute to minute. ROLLS and POLICIES choose less.
 */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, RawClient, requestText } from '../process/clients.ts';
import { spread } from './rounds.ts';
import { Server } from './servers.ts';

const ROLLS = Number(process.env.ROLLS ?? 50);
const ROLLS_PER_ROUND = 10;
const POLICIES = process.env.POLICIES?.split(',') ?? ['least-connections', 'response-time', 'rr', 'none', 'reuseport'];
/** The compiler settles, and then it is the baseline. */
const SETTLE_MS = 5000;
const STEADY_MS = 5000;
const CALM_CLIENTS = 300;
const CALM_PAUSE_MS = 1000;
const UPLOAD = 'x'.repeat(64 * 1024);
const SLOW_UPLOADS = 8;
const UPLOAD_PIECES = 10;
const UPLOAD_PAUSE_MS = 50;
/** Each new worker serves for so long before the old one drains (pool/replacement.ts). */
const PROOF_SECONDS = 1;

interface Sample {
  ms: number;
  at: number;
}

/** Everything that was requested and how it ended. */
class Tally {
  requests = 0;
  /** Keep-alive connections that the server has closed, or announced to. */
  closes = 0;
  readonly failures = new Map<string, number>();
  readonly samples: Sample[] = [];

  fail(why: string): void {
    this.failures.set(why, (this.failures.get(why) ?? 0) + 1);
  }

  get failed(): number {
    return [...this.failures.values()].reduce((sum, count) => sum + count, 0);
  }
}

/** One request on a connection of its own. */
function requestOnce(port: number, path: string, tally: Tally, body = ''): Promise<void> {
  return new Promise(resolve => {
    const failed = (why: string) => {
      tally.fail(`${path}: ${why}`);
      resolve();
    };
    const request = http.request({ port, host: '127.0.0.1', path, agent: false, method: body ? 'POST' : 'GET' }, response => {
      response.on('error', error => failed(error.message));
      response.resume().on('end', () => {
        if (response.statusCode !== 200) return failed(String(response.statusCode));
        tally.requests++;
        resolve();
      });
    });
    request.on('error', (error: NodeJS.ErrnoException) => failed(error.code ?? error.message));
    request.end(body);
  });
}

/**
 * A keep-alive connection at full speed, or with pauses of random length, reopened if a response ends it; latencies are kept with the
 * time at which they were seen.
 * (Not autocannon: it repeats, without counting, what a connection that ended has left unanswered, and from then on takes each answer for
 * the one to the request before it, so that its latencies grow with every connection that the server ends.)
 */
async function keepAlive(port: number, tally: Tally, goesOn: () => boolean, path: string, meanPauseMs = 0): Promise<void> {
  let client: RawClient | undefined;
  while (goesOn()) {
    try {
      const sentAt = performance.now();
      if (client?.isOpen === false) tally.closes++; // like any client that has seen the server's FIN
      if (client?.isOpen !== true) client = await RawClient.open(port);
      const { status, headers } = await client.request(path);
      const at = performance.now();
      if (status !== 200) throw new Error(String(status));
      tally.requests++;
      if (path === '/') tally.samples.push({ ms: at - sentAt, at });
      if (meanPauseMs > 0) await sleep(-Math.log(1 - Math.random()) * meanPauseMs);
      if (headers.connection !== 'close') continue;
      tally.closes++;
    } catch (error) {
      tally.fail(`keep-alive ${path}: ${(error as Error).message}`);
    }
    client?.close();
    client = undefined;
  }
  client?.close();
}

/**
 * Four requests in one write, then their four answers. (A client that keeps writing before it has read may always find that its
 * connection was ended by the answer before: RFC 9112, 9.3.2 has it send them again.)
 */
async function requestInBatches(port: number, tally: Tally, goesOn: () => boolean): Promise<void> {
  let client: RawClient | undefined;
  while (goesOn()) {
    try {
      client ??= await RawClient.open(port);
      client.write(requestText('/').repeat(4));
      let answer: Answer | undefined;
      for (let count = 0; count < 4; count++) answer = await client.answer();
      tally.requests += 4;
      if (answer?.headers.connection !== 'close') continue;
      tally.closes++;
    } catch (error) {
      tally.fail(`pipelining: ${(error as Error).message}`);
    }
    client?.close();
    client = undefined;
  }
  client?.close();
}

/** A body in pieces, over half a second, again and again on one connection. */
async function uploadSlowly(port: number, tally: Tally, goesOn: () => boolean): Promise<void> {
  let client: RawClient | undefined;
  const headers = { 'Content-Length': String(UPLOAD.length) };
  while (goesOn()) {
    try {
      client ??= await RawClient.open(port);
      client.write(requestText('/upload', { method: 'POST', headers }));
      for (let from = 0; from < UPLOAD.length; from += UPLOAD.length / UPLOAD_PIECES) {
        client.write(UPLOAD.slice(from, from + UPLOAD.length / UPLOAD_PIECES));
        await sleep(UPLOAD_PAUSE_MS);
      }
      const { status, headers: answered } = await client.answer();
      if (status !== 200) throw new Error(String(status));
      tally.requests++;
      if (answered.connection !== 'close') continue;
      tally.closes++;
    } catch (error) {
      tally.fail(`slow upload: ${(error as Error).message}`);
    }
    client?.close();
    client = undefined;
  }
  client?.close();
}

async function measure(policy: string): Promise<void> {
  const server = await Server.start('kit, 2 workers', {
    NODE_CLUSTER_SCHED_POLICY: policy,
    APP_MODULE: 'test/fixtures/apps/koa.mjs',
  });
  await server.firstAnswer();
  await server.generation(1);
  const { port } = server;
  const tally = new Tally();
  let isOver = false;
  const goesOn = () => !isOver;
  const once = async (path: string, body?: string) => {
    while (goesOn()) await requestOnce(port, path, tally, body);
  };
  const loops = [once('/'), once('/'), once('/upload', UPLOAD), requestInBatches(port, tally, goesOn)];
  for (let count = 0; count < 16; count++) loops.push(keepAlive(port, tally, goesOn, '/'));
  for (let count = 0; count < 8; count++) loops.push(keepAlive(port, tally, goesOn, '/slow?ms=500'));

  for (let count = 0; count < SLOW_UPLOADS; count++) loops.push(uploadSlowly(port, tally, goesOn));
  // A connection that is rarely used may be ended just when it is.
  for (let count = 0; count < CALM_CLIENTS; count++) loops.push(keepAlive(port, tally, goesOn, '/?calm', CALM_PAUSE_MS));

  const ratios: { throughput: number; p99: number; steadyP99: number; rollingP99: number }[] = [];
  const rollSeconds: number[] = [];
  for (let roll = 0; roll < ROLLS; ) {
    await sleep(SETTLE_MS);
    const steadyFrom = performance.now();
    await sleep(STEADY_MS);
    const rollingFrom = performance.now();
    do {
      const startedAt = performance.now();
      server.signal('SIGHUP');
      await server.generation(++roll + 1);
      rollSeconds.push((performance.now() - startedAt) / 1000);
      process.stderr.write(`\r${policy}: roll ${roll} of ${ROLLS}, ${tally.requests} requests, ${tally.failed} failed`);
    } while (roll % ROLLS_PER_ROUND !== 0 && roll < ROLLS);
    const rollingTo = performance.now();
    const steady = summary(tally.samples, steadyFrom, rollingFrom);
    const rolling = summary(tally.samples, rollingFrom, rollingTo);
    ratios.push({
      throughput: rolling.rate / steady.rate,
      p99: rolling.p99 / steady.p99,
      steadyP99: steady.p99,
      rollingP99: rolling.p99,
    });
    tally.samples.length = 0;
  }
  isOver = true;
  await Promise.all(loops);
  process.stderr.write('\n');
  const status = await server.status();
  await server.stop();

  const series = (name: keyof (typeof ratios)[number], digits: number) =>
    spread(
      ratios.map(ratio => ratio[name]),
      digits,
    );
  console.log(
    `rolling restarts, ${policy}: ${ROLLS} rolls of 2 workers, ${spread(rollSeconds, 1)} s each, of which ${2 * PROOF_SECONDS} s prove the new workers; ${tally.requests} requests, failed: ${JSON.stringify(Object.fromEntries(tally.failures))}`,
  );
  console.log(
    `  keep-alive connections closed: ${tally.closes}, moved: ${status.moved}; cut by the workers' own count: ${status.drains.cutRequests}; finished while draining: ${status.drains.finishedRequests}`,
  );
  console.log(
    `  min/median/max of ${ratios.length} rounds: throughput ${series('throughput', 2)} of steady; p99 ${series('p99', 1)} times steady's (${series('steadyP99', 1)} → ${series('rollingP99', 1)} ms)`,
  );
}

function summary(samples: readonly Sample[], from: number, to: number): { rate: number; p99: number } {
  const chosen = samples.filter(({ at }) => at >= from && at < to).map(({ ms }) => ms);
  chosen.sort((a, b) => a - b);
  return { rate: chosen.length / ((to - from) / 1000), p99: chosen[Math.floor(chosen.length * 0.99)] ?? Number.NaN };
}

for (const policy of POLICIES) await measure(policy);
