/**
 * The parsers of the primary and the worker, with any value that may come over their channel.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry, Summary } from 'prom-client';
import { parseToPrimary, parseToWorker } from '../src/protocol/message-shapes.ts';
import type { ToPrimary, ToWorker } from '../src/protocol/messages.ts';
import { MalformedError } from '../src/protocol/shapes.ts';
import { Stats } from '../src/worker/stats.ts';
import { seededRandom } from './random.ts';

const overTheWire = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

const stats = new Stats([0.1, 1]);
stats.onResponse('GET', 200, 3);
stats.onResponse('PROPFIND', 499, 3000);
const snapshot = stats.snapshot({ connections: 1, accepted: 2, load: 0.5, inFlight: 1 }, []);
const open = { method: 'GET', path: '/', ageMs: 12, bytesSent: 0 };
const streams = { webSockets: { byKit: 1, byApp: 1 }, eventStreams: { byKit: 1, byApp: 1 } };
const ledger = { finished: 1, cutRequests: 1, cut: [open], ...streams, closedGracefully: 1, moved: 1 };
const drain = { ...ledger, longestRequestMs: 3, durationMs: 4 };

const report = {
  message: 'in use',
  stack: 'Error: in use\n    at app.mjs:3',
  summary: { class: 'Error', code: 'EADDRINUSE', file: 'app.mjs', line: 3 },
  isPermanent: true,
};

const TO_PRIMARY: { [T in ToPrimary['type']]: Extract<ToPrimary, { type: T }> } = {
  ready: { type: 'ready', port: 3000, adopted: { kind: 'http', port: 8080, host: 'localhost' } },
  'named-port': { type: 'named-port', port: 8080 },
  failed: { type: 'failed', stage: 'listen', ...report },
  'load-again': { type: 'load-again', asMain: true, loader: 'tsx', why: 'it does not listen' },
  crashing: { type: 'crashing', ...report },
  'app-exit': { type: 'app-exit', message: 'process.exit(3)', open: 1, oldest: [open] },
  redis: { type: 'redis', state: 'ready', message: 'is ready', evictionPolicy: 'noeviction' },
  'keys-read': { type: 'keys-read', change: '"7"' },
  stats: {
    type: 'stats',
    snapshot: {
      ...snapshot,
      redis: { commands: 1, errors: 0, reconnects: 0, faults: 0, sumSeconds: 1, counts: Array(11).fill(0) },
    },
  },
  errors: {
    type: 'errors',
    errors: [
      {
        at: 1,
        class: 'TypeError',
        code: 'ERR_X',
        file: 'app.mjs',
        line: 3,
        method: 'GET',
        route: '/cups/:id',
        status: 500,
        count: 2,
        message: 'no cup',
        frame: 'at app.mjs:3:7',
        path: '/cups/7',
        trace_id: 'a'.repeat(32),
      },
    ],
  },
  health: {
    type: 'health',
    name: 'database',
    readiness: true,
    validMs: 25_000,
    result: { failures: 2, durationMs: 3, failure: { kind: 'threw', message: 'no route', summary: report.summary } },
  },
  waiting: { type: 'waiting', open: 1, oldest: [open], tasks: 2 },
  drained: { type: 'drained', drain },
  closed: {
    type: 'closed',
    closing: {
      tasks: { finished: 1, failed: 2, timedOut: 3, ms: 40 },
      handlers: {
        count: 2,
        failed: 1,
        timedOut: 0,
        ms: 12,
        first: [
          { name: 'closePool', ms: 10, result: 'done' },
          { name: '', ms: 2, result: 'failed', error: report.summary },
        ],
      },
    },
  },
  cordoned: { type: 'cordoned' },
  'took-all': { type: 'took-all' },
  move: { type: 'move', id: 1 },
  taken: { type: 'taken', id: 1, isTaken: true },
  uncordoned: { type: 'uncordoned' },
  diagnosed: { type: 'diagnosed', id: 1, error: 'no room' },
  loaded: { type: 'loaded', files: [{ path: '/app/server.js', version: '1764410000000.25-120-4711' }] },
  leader: { type: 'leader', name: 'cron', scope: 'fleet', step: 'leads', token: 7, owner: 'an id' },
  'snapshot-wanted': { type: 'snapshot-wanted' },
  exiting: { type: 'exiting' },
  broadcast: { type: 'broadcast', event: 'news', json: '{"a":1}' },
};

const TO_WORKER: { [T in ToWorker['type']]: Extract<ToWorker, { type: T }> } = {
  start: { type: 'start', sessionKeys: ['a'], retained: [{ event: 'news', json: '1' }], listeners: [0] },
  inspector: { type: 'inspector', at: { host: '127.0.0.1', port: 9229, isAwaited: false } },
  serve: { type: 'serve', listeners: [] },
  'take-all': { type: 'take-all', listeners: [0, 1] },
  'disable-keepalive': { type: 'disable-keepalive' },
  drain: { type: 'drain', sentAt: 81_000.5, timeoutMs: 25_000, quietMs: 300, appMs: 300, endStalled: true, moves: true },
  take: { type: 'take', id: 1 },
  moved: { type: 'moved', id: 1, isTaken: false },
  cordon: { type: 'cordon' },
  uncordon: { type: 'uncordon' },
  rebalance: { type: 'rebalance', count: 32 },
  diagnose: {
    type: 'diagnose',
    id: 1,
    diagnosis: { kind: 'cpu-profile', seconds: 5 },
    to: { socket: '/tmp/s', path: '/upload' },
  },
  leader: { type: 'leader', name: 'cron', token: 7 },
  broadcast: { type: 'broadcast', event: 'bosun:keys', json: '"7"' },
};

describe('a message of the kit', () => {
  test('a message of the kit arrives as it was sent, in both directions', () => {
    for (const message of Object.values(TO_PRIMARY)) assert.deepEqual(parseToPrimary(overTheWire(message)), message);
    for (const message of Object.values(TO_WORKER)) assert.deepEqual(parseToWorker(overTheWire(message)), message);
  });

  test('a message of the kit carries all kinds of prom-client metrics', async () => {
    const registers = [new Registry()];
    new Counter({ name: 'c', help: 'h', labelNames: ['x'], registers }).inc({ x: 1 });
    const odd = new Gauge({ name: 'odd', help: 'h', labelNames: ['a', 'b', 'c'], registers });
    for (const a of [true, null, undefined, 7.5, '"\n'] as string[]) odd.set({ a, b: 'x' }, 1); // JavaScript may give anything
    new Histogram({ name: 'hi', help: 'h', registers }).observe(1);
    new Summary({ name: 's', help: 'h', registers }).observe(1);
    new Gauge({ name: 'g', help: 'h', registers }).set(Number.NaN);
    const appMetrics = overTheWire((await registers[0]?.getMetricsAsJSON()) ?? assert.fail());
    const parsed = parseToPrimary({ type: 'stats', snapshot: { ...snapshot, appMetrics } });
    const got = parsed.type === 'stats' ? parsed.snapshot.appMetrics : assert.fail();
    assert.deepEqual(
      got.map(({ name }) => name),
      appMetrics.map(({ name }) => name),
    );
    const text = (metrics: typeof got) => AggregatorRegistry.aggregate([metrics]).metrics();
    const withoutNan = appMetrics.map(metric => (metric.name === 'g' ? { ...metric, values: [] } : metric));
    assert.equal(await text(got), await text(withoutNan));
  });
});

const LONG = 'x'.repeat(300_000);
const ODD: unknown[] = [
  null, undefined, true, 0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e308, '', 'stats', LONG, [], {}, [[]], { type: 'stats' },
  { __proto__: null }, { toString: null }, { length: 1e9 }, new Array(5000).fill({}), Object.create({ type: 'exiting' }), new Date(0), () => 0, 7n,
  JSON.parse('{"__proto__":{"x":1},"constructor":1}'),
]; // biome-ignore format: a list to read as one

describe('a malformed message of a worker', () => {
  const wrong: [string, unknown, RegExp][] = [
    ['null', null, /message must be an object, got null/],
    ['text', 'hello', /message must be an object, got "hello"/],
    ['an unknown type', { type: 'toString' }, /message.type must be one of ready, /],
    ['a snapshot of null', { type: 'stats', snapshot: null }, /stats.snapshot must be an object, got null/],
    ['a number that is none', { type: 'ready', port: '3000' }, /ready.port must be a whole number from 0 to 65535, got "3000"/],
    ['a broadcast without fields', { type: 'broadcast' }, /broadcast.event must be a string of at most 256/],
    ["one of the kit's events", { type: 'broadcast', event: 'bosun:keys', json: '1' }, /must be an event of the app/],
    [
      'a check without a name',
      { type: 'health', name: '', readiness: false, validMs: 1 },
      /health.name must be the name of a check/,
    ],
    [
      'a check with markup for a name',
      { type: 'health', name: '<b>', readiness: false, validMs: 1 },
      /health.name must be the name of a check/,
    ],
    ['too large an event', { type: 'broadcast', event: 'e', json: LONG }, /broadcast.json must be a string of at most 262144/],
    ['a status that is none', stats200(1e6), /http\[0\].status must be a whole number from 100 to 999/],
    [
      'too many requests',
      { type: 'waiting', open: 1, oldest: Array(101).fill(open), tasks: 0 },
      /at most 100 elements, got an array of 101/,
    ],
  ];
  for (const [what, message, expected] of wrong) {
    test(`gets an error with the place and the expectation: ${what}`, () => {
      assert.throws(() => parseToPrimary(message), { name: 'MalformedError', message: expected });
    });
  }

  test('only known fields of a message stay in the primary', () => {
    const error = { ...report, message: LONG, stack: LONG, summary: { ...report.summary, file: LONG } };
    const failed = parseToPrimary({ type: 'failed', stage: 'app', ...error, fat: LONG });
    assert.ok(JSON.stringify(failed).length < 25_000);
    const named = { ...report, summary: { class: 'postgres://u:p@h' } };
    assert.throws(() => parseToPrimary({ type: 'crashing', ...named }), { name: 'MalformedError' });
    const waiting = parseToPrimary({ type: 'waiting', open: 1, oldest: [{ ...open, path: LONG, fat: LONG }], tasks: 0 });
    assert.ok(JSON.stringify(waiting).length < 5000);
    const handlers = { count: 1, failed: 0, timedOut: 0, ms: 0, first: [{ name: 'postgres://u:p@h', ms: 1, result: 'done' }] };
    const closed = parseToPrimary({
      type: 'closed',
      closing: { tasks: { finished: 0, failed: 0, timedOut: 0, ms: 0 }, handlers },
    });
    assert.equal(closed.type === 'closed' && closed.closing.handlers.first[0]?.name, '');
    const values = Array.from({ length: 30_000 }, (_, x) => ({ value: 1, labels: { x } }));
    const metric = { name: 'fat', help: 'h', type: 'gauge', aggregator: 'sum', values };
    const fat = parseToPrimary({
      type: 'stats',
      snapshot: { ...snapshot, appMetrics: [{ ...metric, name: 'first', values: [] }, metric] },
    });
    assert.deepEqual(fat.type === 'stats' && fat.snapshot.appMetrics.map(({ name }) => name), ['first']);
  });

  test('a malformed metric does not affect the others', () => {
    const good = { name: 'good', help: 'h', type: 'gauge', aggregator: 'sum', values: [{ value: 1, labels: {} }] };
    const bad = [
      null,
      {},
      { ...good, name: 'a b' },
      { ...good, aggregator: 'constructor' },
      { ...good, values: [{ value: '1' }] },
    ];
    const parsed = parseToPrimary({ type: 'stats', snapshot: { ...snapshot, appMetrics: [...bad, good] } });
    assert.deepEqual(parsed.type === 'stats' && parsed.snapshot.appMetrics, [good]);
  });

  test('any value is a MalformedError or a message of known size', () => {
    const seed = Number(process.env.SEED ?? Date.now() % 1e9);
    console.log(`# seed ${seed}`);
    const random = seededRandom(seed);
    const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
    const mutated = (value: unknown, depth = 0): unknown => {
      if (random() < 0.15 || typeof value !== 'object' || value === null) return random() < 0.3 ? pick(ODD) : value;
      if (Array.isArray(value)) return value.map(each => mutated(each, depth + 1));
      const fields = Object.entries(value).filter(() => random() > 0.05);
      return Object.fromEntries(fields.map(([name, field]) => [name, random() < 0.3 ? mutated(field, depth + 1) : field]));
    };
    let accepted = 0;
    for (let round = 0; round < 20_000; round++) {
      const [parse, from] = round % 2 === 0 ? ([parseToPrimary, TO_PRIMARY] as const) : ([parseToWorker, TO_WORKER] as const);
      const message = random() < 0.1 ? pick(ODD) : mutated(pick(Object.values<object>(from)));
      try {
        assert.ok(JSON.stringify(parse(message)).length < 1_000_000);
        accepted++;
      } catch (error) {
        assert.ok(error instanceof MalformedError, `seed ${seed}, round ${round}: ${(error as Error).stack}`);
      }
    }
    assert.ok(accepted > 1000 && accepted < 19_000, `${accepted} accepted`);
  });
});

function stats200(status: number) {
  return {
    type: 'stats',
    snapshot: { ...snapshot, http: [{ method: 'GET', status, sumSeconds: 1, counts: Array(14).fill(0) }] },
  };
}
