/**
 * Rolling restarts under mixed load: what fails (nothing may), what a roll costs in throughput, and what it does to latency.
 *   ROLLS=50 node test/bench/rolling.ts      about 5 minutes for both policies
 */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, RawClient, requestText } from '../process/clients.ts';
import { Server } from './servers.ts';

const ROLLS = Number(process.env.ROLLS ?? 50);
const STEADY_MS = 10_000;
const UPLOAD = 'x'.repeat(64 * 1024);

interface Sample {
  ms: number;
  at: number;
}

/** Everything that was asked and how it ended. */
class Tally {
  requests = 0;
  readonly failures = new Map<string, number>();
  readonly samples: Sample[] = [];

  failed(why: string): void {
    this.failures.set(why, (this.failures.get(why) ?? 0) + 1);
  }
}

/** One request on a connection of its own. */
function askOnce(port: number, path: string, tally: Tally, body = ''): Promise<void> {
  return new Promise(resolve => {
    const failed = (why: string) => {
      tally.failed(`${path}: ${why}`);
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
 * A keep-alive connection at full speed, opened anew where an answer ends it; latencies are kept with the time at which they were seen.
 * (Not autocannon: it asks again in silence what a connection that ended has left unanswered, and from then on takes each answer for
 * the one to the request before it, so that its latencies grow with every connection that the server ends.)
 */
async function keepAlive(port: number, tally: Tally, goesOn: () => boolean, path: string): Promise<void> {
  let client: RawClient | undefined;
  while (goesOn()) {
    try {
      const askedAt = performance.now();
      client ??= await RawClient.open(port);
      const { status, headers } = await client.ask(path);
      const at = performance.now();
      if (status !== 200) throw new Error(String(status));
      tally.requests++;
      if (path === '/') tally.samples.push({ ms: at - askedAt, at });
      if (headers.connection !== 'close') continue;
    } catch (error) {
      tally.failed(`keep-alive ${path}: ${(error as Error).message}`);
    }
    client?.close();
    client = undefined;
  }
  client?.close();
}

/**
 * Four requests in one write, then their four answers. (A client that keeps writing before it has read may always find that its
 * connection was ended by the answer before: RFC 9112, 9.3.2 has it ask again.)
 */
async function askInBatches(port: number, tally: Tally, goesOn: () => boolean): Promise<void> {
  let client: RawClient | undefined;
  while (goesOn()) {
    try {
      client ??= await RawClient.open(port);
      client.write(requestText('/').repeat(4));
      let answer: Answer | undefined;
      for (let count = 0; count < 4; count++) answer = await client.answer();
      tally.requests += 4;
      if (answer?.headers.connection !== 'close') continue;
    } catch (error) {
      tally.failed(`pipelining: ${(error as Error).message}`);
    }
    client?.close();
    client = undefined;
  }
  client?.close();
}

async function measure(policy: 'rr' | 'none'): Promise<void> {
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
    while (goesOn()) await askOnce(port, path, tally, body);
  };
  const loops = [once('/'), once('/'), once('/upload', UPLOAD), askInBatches(port, tally, goesOn)];
  for (let count = 0; count < 16; count++) loops.push(keepAlive(port, tally, goesOn, '/'));
  for (let count = 0; count < 8; count++) loops.push(keepAlive(port, tally, goesOn, '/slow?ms=500'));

  await sleep(STEADY_MS); // the compiler settles, and then it is the baseline
  const rollingFrom = performance.now();
  for (let roll = 1; roll <= ROLLS; roll++) {
    server.signal('SIGHUP');
    await server.generation(roll + 1);
    process.stderr.write(
      `\r${policy}: roll ${roll} of ${ROLLS}, ${tally.requests} requests, ${[...tally.failures.values()].reduce((a, b) => a + b, 0)} failed`,
    );
  }
  const rollingTo = performance.now();
  isOver = true;
  await Promise.all(loops);
  process.stderr.write('\n');
  const status = await server.status();
  await server.stop();

  const steady = summary(tally.samples, rollingFrom - STEADY_MS / 2, rollingFrom);
  const rolling = summary(tally.samples, rollingFrom, rollingTo);
  console.log(
    `rolling restarts, ${policy}: ${ROLLS} rolls of 2 workers, ${tally.requests} requests, failed: ${JSON.stringify(Object.fromEntries(tally.failures))}`,
  );
  console.log(
    `  cut by the workers' own count: ${status.drains.cutRequests}; finished while draining: ${status.drains.finishedRequests}`,
  );
  console.log(
    `  throughput while rolling ${(rolling.rate / steady.rate).toFixed(2)} of steady; p99 ${steady.p99.toFixed(1)} ms → ${rolling.p99.toFixed(1)} ms (${(rolling.p99 / steady.p99).toFixed(1)} ×)`,
  );
}

function summary(samples: readonly Sample[], from: number, to: number): { rate: number; p99: number } {
  const chosen = samples.filter(({ at }) => at >= from && at < to).map(({ ms }) => ms);
  chosen.sort((a, b) => a - b);
  return { rate: chosen.length / ((to - from) / 1000), p99: chosen[Math.floor(chosen.length * 0.99)] ?? Number.NaN };
}

await measure('rr');
await measure('none');
