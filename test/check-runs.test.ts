/**
 * When a health check runs, and what it reports, in virtual time.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import type { HealthCheck } from '../src/index.ts';
import type { HealthReport } from '../src/protocol/health.ts';
import { type Clock, ScheduledCheck } from '../src/worker/kit/check-runs.ts';
import type { RegisteredCheck } from '../src/worker/kit/health.ts';

/** Runs due timers in order; what they start is settled before the next. */
class VirtualClock implements Clock {
  #now = 0;
  readonly #timers = new Set<{ at: number; callback: () => void }>();

  now = () => this.#now;

  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.#now + ms, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settled();
      const [next] = [...this.#timers].sort((a, b) => a.at - b.at);
      if (next === undefined || next.at > end) break;
      this.#timers.delete(next);
      this.#now = next.at;
      next.callback();
    }
    this.#now = end;
  }
}

const settled = () => new Promise(resolve => setImmediate(resolve));

function run(check: HealthCheck, { random = () => 0.5, ...options }: Partial<RegisteredCheck> & { random?: () => number } = {}) {
  const clock = new VirtualClock();
  const reports: HealthReport[] = [];
  const registered = { name: 'database', check, readiness: false, intervalMs: 10_000, timeoutMs: 5000, ...options };
  const scheduled = new ScheduledCheck(registered, report => reports.push(report), clock, random);
  const said = () => reports.map(({ result }) => [result?.failures, result?.failure?.kind]);
  return { clock, reports, scheduled, said };
}

test('a check runs at once and then every interval', async () => {
  const at: number[] = [];
  const { clock, scheduled, reports } = run(() => void at.push(clock.now()));
  scheduled.start();
  await clock.advance(30_000);
  assert.deepEqual(at, [0, 10_000, 20_000, 30_000]);
  assert.deepEqual(reports[0], {
    name: 'database',
    readiness: false,
    validMs: 25_000,
    result: { failures: 0, durationMs: 0 },
  });
});

for (const [random, ms] of [
  [0, 8000],
  [1, 12_000],
] as const)
  test(`an interval of 10 s is ${ms} ms where the random number is ${random}`, async () => {
    const at: number[] = [];
    const { clock, scheduled } = run(() => void at.push(clock.now()), { random: () => random });
    scheduled.start();
    await clock.advance(ms);
    assert.deepEqual(at, [0, ms]);
  });

for (const [what, check, failure] of [
  ['throws', () => { throw new RangeError('too far'); }, { kind: 'threw', message: 'too far', class: 'RangeError' }],
  ['rejects', async () => Promise.reject(Object.assign(new Error('no route'), { code: 'EHOSTUNREACH' })), { kind: 'threw', message: 'no route', class: 'Error', code: 'EHOSTUNREACH' }],
  ['throws null', () => { throw null; }, { kind: 'threw', message: 'null', class: 'Error' }],
  ['returns false', () => false, { kind: 'returned', value: 'false', message: 'false' }],
  ['resolves with false', async () => false, { kind: 'returned', value: 'false', message: 'false' }],
  ['returns an error', () => new Error('down'), { kind: 'threw', message: 'down', class: 'Error' }],
  ['returns a Response that is not ok', () => ({ ok: false, message: 'lag of 9 s' }), { kind: 'returned', value: 'ok: false', message: 'lag of 9 s' }],
  ['returns an object whose getter throws', () => ({ get ok() { throw new Error('revoked'); } }), { kind: 'threw', message: 'revoked', class: 'Error' }],
  ['returns nothing', () => undefined, undefined],
  ['returns null', () => null, undefined],
  ['returns an object with a body that is none', () => ({ ok: true, body: null }), undefined],
  ['returns what Redis answers', async () => 'PONG', undefined],
  ['returns rows', async () => ({ rows: [1] }), undefined],
  ['returns what MongoDB answers', async () => ({ ok: 1 }), undefined],
] as [string, HealthCheck, Record<string, string> | undefined][]) // biome-ignore format: a table
  test(`a check that ${what} ${failure === undefined ? 'passes' : 'fails'}`, async () => {
    const { clock, scheduled, reports } = run(check);
    scheduled.start();
    await clock.advance(0);
    const found = reports[0]?.result?.failure;
    const { class: name, code, ...rest } = failure ?? {};
    if (found?.kind === 'threw') assert.deepEqual([found.summary.class, found.summary.code], [name, code]);
    assert.deepEqual(found?.kind === 'threw' ? { kind: found.kind, message: found.message } : found, failure && rest);
    assert.equal(reports[0]?.result?.failures, failure === undefined ? 0 : 1);
  });

test('the connection of a response whose body nobody reads is free again, and a body in use is left alone', {
  timeout: 4000,
}, async () => {
  const server = createServer((_, response) => response.writeHead(500).end('x'.repeat(1 << 20))).listen(0, '127.0.0.1');
  after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const { clock, scheduled, reports } = run(({ signal }) => fetch(`http://127.0.0.1:${port}`, { signal }));
  // By a reset where the client has not read everything.
  const closed = new Promise(resolve => server.once('connection', socket => socket.on('error', resolve).once('close', resolve)));
  scheduled.start();
  await closed;
  await clock.advance(0);
  const failure = reports[0]?.result?.failure;
  assert.equal(failure?.kind === 'returned' && failure.value, 'ok: false');
  const read = run(async () => {
    const response = new Response('rows');
    response.body?.getReader();
    return response;
  });
  read.scheduled.start();
  await read.clock.advance(0);
  assert.equal(read.reports[0]?.result?.failures, 0);
});

test('failures in a row are counted, and a success begins again', async () => {
  const results = [false, false, true, false];
  const { clock, scheduled, said } = run(() => results.shift());
  scheduled.start();
  await clock.advance(30_000);
  assert.deepEqual(
    said().map(([failures]) => failures),
    [1, 2, 0, 1],
  );
});

test('a check that hangs fails after its timeout and once more in each interval, and does not run again before it has ended', async () => {
  const ends: (() => void)[] = [];
  const signals: AbortSignal[] = [];
  const { clock, scheduled, said, reports } = run(({ signal }) => {
    signals.push(signal);
    return new Promise<void>(resolve => ends.push(resolve));
  });
  scheduled.start();
  await clock.advance(4999);
  assert.deepEqual([signals[0]?.aborted, said()], [false, []]);
  await clock.advance(20_001);
  assert.equal(ends.length, 1);
  assert.equal(signals[0]?.reason.name, 'TimeoutError');
  assert.deepEqual(
    reports.map(({ result }) => [result?.failures, result?.durationMs, result?.failure]),
    [5000, 10_000, 20_000].map((durationMs, index) => [index + 1, durationMs, { kind: 'timed-out', afterMs: 5000 }]),
  );
  ends[0]?.();
  await clock.advance(5000);
  assert.equal(ends.length, 2, 'it runs again in its next turn');
  ends[1]?.();
  await clock.advance(0);
  assert.deepEqual(said().slice(3), [[0, undefined]], 'the late result counts for nothing, the next one does');
});

test('a check that takes longer than its interval, and less than its timeout, passes and misses a turn', async () => {
  let runs = 0;
  const { clock, scheduled, said } = run(
    () => {
      runs++;
      return new Promise(resolve => clock.after(15_000, () => resolve(true)));
    },
    { timeoutMs: 60_000 },
  );
  scheduled.start();
  await clock.advance(19_999);
  assert.deepEqual([runs, said()], [1, [[0, undefined]]]);
  await clock.advance(1);
  assert.equal(runs, 2);
});

test('a check that was stopped does not run or report, and its signal aborts', async () => {
  let runs = 0;
  let signal: AbortSignal | undefined;
  const { clock, scheduled, reports } = run(async run => {
    runs++;
    signal = run.signal;
    await new Promise((_, reject) => run.signal.addEventListener('abort', reject));
  });
  scheduled.start();
  await clock.advance(1000);
  scheduled.stop();
  await clock.advance(60_000);
  assert.deepEqual([runs, signal?.aborted, reports], [1, true, []]);
  const late = run(() => void runs++);
  late.scheduled.stop();
  late.scheduled.start();
  await late.clock.advance(60_000);
  assert.equal(runs, 1);
});
