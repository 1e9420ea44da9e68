/**
 * The one stream of lifecycle events, and what its listeners make of them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shown } from '../src/admin/history.ts';
import { Totals } from '../src/admin/totals.ts';
import { createLog } from '../src/log/log.ts';
import { Events } from '../src/primary/events.ts';
import type { ShownEvent } from '../src/protocol/api.ts';
import type { LifecycleEvent } from '../src/protocol/events.ts';
import { exitOf, snapshotOf } from './exited.ts';

const DRAIN = {
  finished: 7,
  cutRequests: 1,
  cut: [{ method: 'GET', path: '/', ageMs: 1, bytesSent: 0 }],
  webSockets: { byKit: 3, byApp: 1 },
  eventStreams: { byKit: 2, byApp: 0 },
  closedGracefully: 9,
  moved: 0,
  longestRequestMs: 5,
  durationMs: 12,
};

const scaled = (to: number): LifecycleEvent => ({ event: 'pool.scale', from: 1, to });

test('every listener gets each event once and in order, also those from before it listened', () => {
  const events = new Events();
  const lists: number[][] = [[], []];
  const listen = (list: number[] | undefined) => events.listen(event => event.event === 'pool.scale' && list?.push(event.to));
  listen(lists[0]);
  events.emit(scaled(2));
  const unsubscribe = listen(lists[1]);
  events.emit(scaled(3));
  unsubscribe();
  events.emit(scaled(4));
  assert.deepEqual(lists, [
    [2, 3, 4],
    [2, 3],
  ]);
});

test('an event that a listener emits comes after the current one, for every listener', () => {
  const events = new Events();
  const seen: string[] = [];
  events.listen(({ event }) => {
    seen.push(`first ${event}`);
    if (event === 'pool.started') events.emit({ event: 'pool.ready', workers: 1, wanted: 1, ms: 5 });
  });
  events.listen(({ event }) => seen.push(`second ${event}`));
  events.emit({ event: 'pool.started' });
  assert.deepEqual(seen, ['first pool.started', 'second pool.started', 'first pool.ready', 'second pool.ready']);
});

test('a listener that throws does not end the stream for later events', () => {
  const events = new Events();
  const seen: string[] = [];
  const unsubscribe = events.listen(() => {
    throw new Error('no');
  });
  assert.throws(() => events.emit(scaled(2)), /no/);
  unsubscribe();
  events.listen(({ event }) => seen.push(event));
  events.emit(scaled(3));
  assert.deepEqual(seen, ['pool.scale', 'pool.scale']);
});

test('once the past is forgotten, a listener gets later events only', () => {
  const events = new Events();
  const seen: LifecycleEvent[] = [];
  events.emit(scaled(2));
  events.forgetPast();
  events.listen(event => seen.push(event));
  events.emit(scaled(3));
  assert.deepEqual(seen, [scaled(3)]);
});

test('the log has each event at its level, with its public fields only', () => {
  const events = new Events();
  const lines: string[] = [];
  events.emit(scaled(3));
  events.logTo(createLog('trace', {}, line => lines.push(line)));
  events.emit({ event: 'worker.starting', worker: 1, workerPid: 101, generation: 1 });
  const malformed = { event: 'worker.malformed-message', worker: 1, workerPid: 101, error: 'no' } as const;
  events.emit({ ...malformed, isFirst: true });
  events.emit({ ...malformed, isFirst: false });
  events.emit(exitOf(1, { isFailure: true, reason: 'crash', failure: 'Error: no', snapshot: snapshotOf(), fingerprint: '#1' }));
  events.emit(exitOf(2, { reason: 'restart', drain: DRAIN }));
  const { closedGracefully: handedOver, ...rest } = DRAIN;
  const logged = lines.map(line => {
    const { time: _, ...fields } = JSON.parse(line);
    return fields;
  });
  assert.deepEqual(logged, [
    { level: 'info', event: 'pool.scale', from: 1, to: 3 },
    { level: 'warn', event: 'worker.malformed-message', worker: 1, workerPid: 101, error: 'no' },
    {
      level: 'error',
      event: 'worker.exit',
      worker: 1,
      workerPid: 101,
      reason: 'crash',
      failure: 'Error: no',
      fingerprint: '#1',
    },
    { level: 'info', event: 'worker.exit', worker: 2, workerPid: 102, reason: 'restart', drain: { ...rest, handedOver } },
  ]);
});

/** Kind and text of each event for an operator. */
const shownOf = (...events: LifecycleEvent[]) => events.flatMap(event => textOf(shown(event, 1)?.operator));
const textOf = (entry: ShownEvent | undefined) => (entry === undefined ? [] : [`${entry.kind}: ${entry.text}`]);

test('each state of a worker is shown', () => {
  const fields = { worker: 1, workerPid: 101 };
  assert.deepEqual(
    shownOf(
      { event: 'worker.starting', ...fields, generation: 1 },
      { event: 'worker.ready', ...fields, generation: 1, ms: 7 },
      { event: 'worker.cordoned', ...fields },
      { event: 'worker.uncordoned', ...fields },
      { event: 'worker.draining', ...fields, reason: 'recycled-rss' },
    ),
    [
      'starting: worker 1 (process 101) is starting',
      'ready: worker 1 (process 101) is ready',
      'cordoned: worker 1 (process 101) is cordoned',
      'ready: worker 1 (process 101) is ready',
      'draining: worker 1 (process 101) is draining, recycled-rss',
    ],
  );
});

test('an exit is shown with its reason, the error of a bad one, and the ledger of its drain', () => {
  assert.deepEqual(
    shownOf(
      exitOf(1, { reason: 'crash', failure: 'Error: no' }),
      exitOf(2, { reason: 'restart', failure: 'of no interest', drain: DRAIN }),
      exitOf(3, { reason: 'killed', failure: 'signal SIGKILL' }),
    ),
    [
      'exit: worker 1 is gone (crash: Error: no)',
      'exit: worker 2 is gone (restart): 7 requests finished while draining, 1 cut, 5 WebSockets and event streams closed by the kit, 9 connections closed gracefully, 0 moved, 12 ms',
      'exit: worker 3 is gone (killed: signal SIGKILL)',
    ],
  );
});

test('the open audience sees no text of the app', () => {
  const entry = shown(exitOf(1, { reason: 'crash', failure: 'Error: secret', openFailure: 'Error, message #1' }), 1);
  assert.equal(entry?.open.text, 'worker 1 is gone (crash: Error, message #1)');
  assert.doesNotMatch(JSON.stringify(entry?.open), /secret/);
});

test('resizes and rolling restarts are shown', () => {
  assert.deepEqual(
    shownOf(
      { event: 'pool.scale', from: 2, to: 2 },
      { event: 'pool.scale', from: 2, to: 4 },
      { event: 'pool.scale-failed', from: 4, to: 2, error: 'Error: secret' },
      { event: 'pool.restart', generation: 2, workers: 4 },
      { event: 'pool.restarted', generation: 2 },
      { event: 'pool.restart-failed', generation: 2, error: 'Error: secret' },
      { event: 'pool.restart-refused', why: 'no memory' },
    ),
    [
      'resize: pool resizes from 2 to 4 workers',
      'resize: pool resizes from 4 to 2 workers',
      'restart: rolling restart: generation 2',
      'restarted: generation 2 serves',
      'restart-failed: rolling restart failed',
      'restart-refused: restart refused: no memory',
    ],
  );
});

test('the totals count exits, failed starts, lost requests and dropped messages', () => {
  const totals = new Totals();
  const events: LifecycleEvent[] = [
    exitOf(1, { reason: 'restart', drain: DRAIN }),
    exitOf(2, { reason: 'crash', isFailedStart: true, failure: 'Error: no', openFailure: 'Error, message #1' }),
    exitOf(3, { lost: { open: 2, oldest: [] }, snapshot: snapshotOf({ inFlight: 5, accepted: 3 }) }),
    exitOf(3, { snapshot: snapshotOf({ inFlight: 5, accepted: 4 }) }),
    { event: 'worker.malformed-message', worker: 1, workerPid: 101, error: 'no', isFirst: true },
    { event: 'shutdown.unserved', connections: 20 },
    { event: 'shutdown.unacknowledged', connections: 3, bytes: 9 },
  ];
  for (const event of events) totals.onEvent(event, 5);
  const { drains, failedStarts } = totals;
  assert.deepEqual(Object.fromEntries(totals.exitsByReason), { restart: 1, crash: 1, killed: 2 });
  assert.deepEqual(failedStarts, {
    count: 1,
    last: { at: 5, worker: 2, reason: 'crash', error: undefined, why: 'Error, message #1', failure: 'Error: no' },
  });
  assert.equal(drains.cutRequests, 1 + 2 + 5 + 20, 'of the ledger, of the report, of the last snapshot, and never accepted');
  assert.deepEqual(drains.last, { ...DRAIN, worker: 1, reason: 'restart' });
  assert.deepEqual([totals.malformedMessages, drains.unacknowledgedConnections, totals.acceptedBy(3, 1)], [1, 3, 8]);
});
