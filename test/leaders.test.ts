/**
 * `kit.leader` without Redis and processes: what it accepts, and what a primary makes of the reports of its workers.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readConfig } from '../src/config/config.ts';
import type { Log } from '../src/log/log.ts';
import { type CandidateWorker, Leaders as PoolLeaders } from '../src/pool/leaders.ts';
import type { LeaderNotice, LeaderReport } from '../src/protocol/leader.ts';
import { parseToPrimary } from '../src/protocol/message-shapes.ts';
import type { ToWorker } from '../src/protocol/messages.ts';
import { reportOf } from '../src/worker/error-report.ts';
import { Leaders } from '../src/worker/kit/leaders.ts';

const leadersWith = (environment: Record<string, string>) =>
  new Leaders({
    config: readConfig(environment),
    workerId: 1,
    log: () => ({}) as Log,
    root: () => 'koa:sess',
  });
const start = () => undefined;

test('kit.leader refuses what it cannot do, with the reason', () => {
  const leaders = leadersWith({ REDIS_URL: 'redis://127.0.0.1:1' });
  const refusals: [unknown[], RegExp][] = [
    [['', start], /the name of a leader must be 1 to 64 letters, .*, got ""/],
    [['a b', start], /got "a b"/],
    [['x'.repeat(65), start], /got "x/],
    [[7, start], /got number/],
    [['cron', 'not a function'], /kit\.leader\("cron"\): start must be a function, got "not a function"/],
    [['cron', start, null], /options must be an object, got null/],
    [['cron', start, { scopes: 'pod' }], /kit\.leader\("cron"\): there is no option scopes; there is scope$/],
    [['cron', start, { scope: 'world' }], /scope must be "fleet" or "pod", got "world"/],
  ];
  for (const [[name, given, options], message] of refusals)
    assert.throws(() => leaders.add(name, given, options as never), { name: 'TypeError', message });
  leaders.add('cron', start);
  assert.throws(() => leaders.add('cron', start), { name: 'TypeError', message: /called twice/ });
  for (let count = 1; count < 100; count++) leaders.add(`leader-${count}`, start);
  assert.throws(() => leaders.add('one-more', start), RangeError);
});

test('without Redis the scope must be pod: three pods would run a migration three times', () => {
  const leaders = leadersWith({});
  const refused = (error: unknown) => {
    assert.match(String(error), /^Error: .*needs Redis.*REDIS_URL.*scope: 'pod'/);
    assert.equal(reportOf(error).isPermanent, true, 'the start fails at once');
    return true;
  };
  assert.throws(() => leaders.add('migrate', start), refused);
  leaders.add('migrate', start, { scope: 'pod' });
});

interface Worker extends CandidateWorker {
  isActive: boolean;
  state: string;
  sent: ToWorker[];
}

function primary() {
  const [emitted, notices, freed]: [string[], LeaderNotice[], string[]] = [[], [], []];
  let now = 1000;
  const leaders = new PoolLeaders({
    emit: event => emitted.push(Object.values(event).join(' ')),
    notify: notice => notices.push(notice),
    freeLock: async (name, owner) => void freed.push(`${name} ${owner}`),
    epochNow: () => now,
  });
  const worker = (id: number): Worker => {
    const sent: ToWorker[] = [];
    return { id, isActive: true, state: 'ready', sent, send: message => sent.push(message) };
  };
  const report = (from: Worker, message: object) =>
    leaders.onReport(from, parseToPrimary({ type: 'leader', name: 'cron', ...message }) as LeaderReport & { type: 'leader' });
  return { leaders, emitted, notices, freed, worker, report, setNow: (at: number) => (now = at) };
}

test('in the scope pod the primary gives the lead to one worker, and to the next when that one has exited', () => {
  const { leaders, emitted, worker, report, setNow } = primary();
  const [first, second, third] = [worker(1), worker(2), worker(3)];
  for (const each of [first, second, third]) report(each, { scope: 'pod', step: 'waits' });
  assert.deepEqual([first.sent, second.sent], [[{ type: 'leader', name: 'cron', token: 1_000_000 }], []]);
  report(first, { scope: 'pod', step: 'leads', token: 1_000_000 });
  report(second, { scope: 'pod', step: 'leads', token: 1_000_000 });
  assert.deepEqual(emitted, ['leader.acquired cron 1 pod 1000000'], 'a lead that was not given does not count');
  second.isActive = false;
  setNow(0); // the clock goes back
  leaders.onExit(1);
  assert.deepEqual(
    [second.sent, third.sent],
    [[], [{ type: 'leader', name: 'cron', token: 1_000_001 }]],
    'not to one that drains',
  );
  assert.equal(emitted[1], 'leader.lost cron 1 1000000 exit');
  report(third, { scope: 'pod', step: 'released', why: 'drain' });
  first.state = 'exited';
  report(first, { scope: 'pod', step: 'waits' });
  assert.deepEqual(leaders.view, { cron: { scope: 'pod', holder: null } }, 'a message after the exit changes nothing');
});

test('in the scope fleet it frees the lock of a worker that has died, and notifies the others', async () => {
  const { leaders, notices, freed, worker, report } = primary();
  const [first, second] = [worker(1), worker(2)];
  report(second, { scope: 'fleet', step: 'waits', holder: { pod: 'web-2', worker: 5, token: 6, since: 1 } });
  assert.deepEqual(leaders.view.cron?.holder, { pod: 'web-2', worker: 5, token: 6, since: 1, isSelf: false });
  report(first, { scope: 'fleet', step: 'leads', token: 7, owner: 'a' });
  report(second, { scope: 'fleet', step: 'waits', holder: { pod: 'web-2', worker: 5, token: 6, since: 1 } });
  assert.equal(leaders.view.cron?.holder?.token, 7, 'what a worker has read is outdated');
  // The first one is blocked, and another one of this pod leads.
  report(second, { scope: 'fleet', step: 'leads', token: 8, owner: 'b' });
  assert.equal(leaders.view.cron?.holder?.token, 8);
  assert.ok(leaders.release('cron'));
  leaders.onExit(2);
  await new Promise(setImmediate);
  assert.deepEqual(freed, ['cron b']);
  assert.deepEqual(notices.slice(-2), [
    { type: 'give-up', name: 'cron', token: 8 },
    { type: 'seen', name: 'cron', token: 8, isFree: true },
  ]);
});

test('forged reports neither grow the primary nor reach it malformed', () => {
  const { leaders, worker, report } = primary();
  const forger = worker(1);
  for (let count = 0; count < 1000; count++) report(forger, { name: `name-${count}`, scope: 'fleet', step: 'waits' });
  assert.equal(Object.keys(leaders.view).length, 100);
  for (const message of [
    { name: '__proto__\n', scope: 'fleet', step: 'waits' },
    { scope: 'world', step: 'waits' },
    { scope: 'fleet', step: 'leads', token: 2 ** 53 },
    { scope: 'fleet', step: 'leads', token: 1, owner: 'x'.repeat(65) },
    { scope: 'fleet', step: 'lost', token: 1, why: 'whim' },
    { scope: 'fleet', step: 'waits', holder: { pod: 'web-1' } },
  ])
    assert.throws(() => report(forger, message), { name: 'MalformedError' }, JSON.stringify(message));
});
