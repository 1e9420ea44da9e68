import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { test } from 'node:test';
import { renderFleet } from '../src/cli/render.ts';
import { Peers } from '../src/state/peers.ts';

const heartbeat = (origin: string, more: object = {}) =>
  JSON.stringify({
    origin,
    pod: `pod-${origin}`,
    version: '0.1.0',
    state: 'ready',
    generation: 1,
    workers: 2,
    wanted: 2,
    requestsPerSecond: 12.5,
    errors: { '4xx': 0.5, '5xx': 2.25 },
    p99Ms: 3,
    ...more,
  });

function peersAt(clock: { ms: number }): Peers {
  const ownPod = () => {
    throw new Error('not called');
  };
  return new Peers('self', ownPod, () => clock.ms);
}

test('a silent peer is shown as such, and forgotten after 30 seconds; one that said goodbye, at once', () => {
  const clock = { ms: 0 };
  const peers = peersAt(clock);
  for (const origin of ['b', 'a', 'c']) peers.onMessage(heartbeat(origin));
  clock.ms = 5000;
  peers.onMessage(heartbeat('a', { workers: 1 }));
  peers.onMessage(heartbeat('c', { state: 'gone' }));
  assert.deepEqual(
    peers.all.map(({ pod, workers, silentSeconds }) => [pod, workers, silentSeconds]),
    [
      ['pod-a', 1, 0],
      ['pod-b', 2, 5],
    ],
  );
  const [, silent = ''] = renderFleet(peers.all).split('\n').slice(1);
  assert.match(silent, /^pod-b +0\.1\.0 +ready +1 +2 of 2 +12\.5 +0\.5 +2\.3 +3 ms +silent for 5 s$/);
  clock.ms = 31_000;
  assert.deepEqual(
    peers.all.map(({ pod }) => pod),
    ['pod-a'],
  );
});

test('malformed heartbeats, and those with our own origin, are ignored', () => {
  const peers = peersAt({ ms: 0 });
  for (const text of [
    '',
    'null',
    '[]',
    '{}',
    heartbeat('a', { state: 'fine' }),
    heartbeat('a', { workers: '2' }),
    heartbeat('self'),
  ])
    peers.onMessage(text);
  assert.deepEqual(peers.all, []);
});

test('what a peer reports about itself is bounded and printable, without unknown fields', () => {
  const peers = peersAt({ ms: 0 });
  peers.onMessage(heartbeat('a', { pod: '\x1b[2J\u202epod\n', version: 'v'.repeat(1000), more: 'x'.repeat(100) }));
  peers.onMessage(heartbeat('b', { pod: 'x'.repeat(100_000) }));
  for (const more of [{ workers: -1 }, { p99Ms: null }, { generation: '1' }, { keysRead: 7 }])
    peers.onMessage(heartbeat('c', more));
  peers.onMessage(heartbeat('d\x07'));
  const [member, ...others] = peers.all;
  assert.deepEqual(others, []);
  assert.equal(member?.pod, '?[2J?pod?');
  assert.equal(member?.version.length, 65);
  assert.ok(!('more' in (member ?? {})));
  assert.equal(peers.ignored.malformed, 6);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not occur
  assert.doesNotMatch(renderFleet(peers.all).replaceAll('\n', ''), /[\0-\x1f]/);
});

test('at most a thousand peers are remembered', () => {
  const peers = peersAt({ ms: 0 });
  for (let i = 0; i < 1500; i++) peers.onMessage(heartbeat(`pod-${i}`));
  assert.equal(peers.all.length, 1000);
  assert.equal(peers.ignored.crowded, 500);
});

test('a replayed signed heartbeat is ignored', () => {
  let now = 1_000_000;
  const peers = new Peers(
    'self',
    () => {
      throw new Error('not called');
    },
    () => now,
    () => now,
  );
  const recorded = heartbeat('a', { beat: 7, at: now });
  peers.onMessage(recorded, true);
  assert.equal(peers.all.length, 1);
  now += 31_000;
  assert.deepEqual(peers.all, []);
  peers.onMessage(recorded, true);
  peers.onMessage(heartbeat('a', { beat: 6, at: now }), true);
  peers.onMessage(heartbeat('b', { beat: 1, at: now - 301_000 }), true);
  peers.onMessage(heartbeat('c'), true);
  assert.deepEqual(peers.all, []);
  assert.equal(peers.ignored.stale, 4);
  peers.onMessage(heartbeat('a', { beat: 8, at: now + 299_000 }), true);
  assert.equal(peers.all.length, 1, 'the clocks of two pods differ');
});

test('a heartbeat reports this pod with its request rate since the last one, and is numbered and dated', () => {
  let now = 5000;
  let requests = 0;
  const numbers = { version: '1', state: 'ready', generation: 2, workers: 3, wanted: 4, p99Ms: 5 } as const;
  const peers = new Peers(
    'self',
    () => ({ ...numbers, requests }),
    () => now,
    () => 1_000_000 + now,
  );
  const rate = () => peers.heartbeat().requestsPerSecond;
  assert.equal(rate(), 0, 'no time has passed');
  now += 2000;
  requests += 25;
  assert.equal(rate(), 12.5);
  now += 1500;
  requests += 1;
  assert.equal(rate(), 0.7, 'one decimal');
  now += 1000;
  requests -= 50;
  assert.equal(rate(), 0, 'never negative');
  const self = { origin: 'self', pod: hostname(), ...numbers, requestsPerSecond: 0 };
  now += 400;
  requests += 50;
  assert.deepEqual(peers.heartbeat(), self, 'the same rate, just after the last one');
  assert.deepEqual(peers.heartbeat('change'), { ...self, keysRead: 'change' });
  assert.deepEqual(peers.all, [{ ...self, keysRead: 'change', silentSeconds: 0, isSelf: true }]);
  assert.deepEqual(JSON.parse(peers.textOf(self)), { ...self, beat: 1, at: 1_009_900 });
  assert.deepEqual(JSON.parse(peers.textOf(self)), { ...self, beat: 2, at: 1_009_900 });
  assert.deepEqual(peers.goodbye(), { ...self, state: 'gone' });
});

test('the list of pods begins with this one, then the others by name', () => {
  const ownPod = { version: '1', state: 'ready', generation: 1, workers: 1, wanted: 1, p99Ms: 1, requests: 0 } as const;
  const peers = new Peers('self', () => ownPod);
  for (const origin of ['b', 'c']) peers.onMessage(heartbeat(origin, { pod: `zz-${origin}` }));
  peers.heartbeat();
  peers.onMessage(heartbeat('a', { pod: '0' }));
  assert.deepEqual(
    peers.all.map(({ origin }) => origin),
    ['self', 'a', 'b', 'c'],
  );
});

test('a peer is forgotten after 30 seconds, not before', () => {
  const clock = { ms: 0 };
  const peers = peersAt(clock);
  peers.onMessage(heartbeat('a'));
  clock.ms = 30_000;
  assert.equal(peers.all.length, 1);
  clock.ms = 30_001;
  assert.equal(peers.all.length, 0);
});

test('the numbers of signed heartbeats are remembered for 2,000 pods, those silent for longest forgotten first', () => {
  const now = 1_000_000;
  const peers = new Peers(
    'self',
    () => assert.fail('not called'),
    () => now,
    () => now,
  );
  const receive = (origin: string, number: number, at = now) => {
    const { stale } = peers.ignored;
    peers.onMessage(heartbeat(origin, { beat: number, at, state: 'gone' }), true);
    return peers.ignored.stale === stale;
  };
  assert.ok(receive('first', 5));
  assert.ok(receive('second', 5));
  for (let i = 0; i < 1998; i++) receive(`pod-${i}`, 1);
  assert.ok(!receive('first', 5), '2,000 are remembered');
  assert.ok(receive('first', 6));
  receive('one-more', 1);
  assert.ok(!receive('first', 6), 'seen lately');
  assert.ok(receive('second', 5), 'forgotten');
  assert.ok(receive('clock-behind', 1, now - 300_000));
  assert.ok(receive('clock-ahead', 1, now + 300_000));
  assert.ok(!receive('clock-further-behind', 1, now - 300_001));
});

test('a heartbeat is at most 4,096 characters long', () => {
  const peers = peersAt({ ms: 0 });
  const long = (length: number) => heartbeat('a', { version: '' }).replace('"version":""', `"version":"${'x'.repeat(length)}"`);
  const rest = long(0).length;
  peers.onMessage(long(4096 - rest));
  assert.equal(peers.all.length, 1);
  peers.onMessage(long(4097 - rest));
  assert.deepEqual([peers.ignored.malformed, peers.all.length], [1, 1]);
});

test('other apps that use the same names are found by their heartbeats, a bounded number of them', () => {
  const own = { version: '1', state: 'ready', generation: 1, workers: 1, wanted: 1, p99Ms: 0, requests: 0, app: 'shop' } as const;
  const peers = new Peers(
    'self',
    () => own,
    () => 0,
  );
  const receive = (origin: string, app?: string) => peers.onMessage(heartbeat(origin, { app }));
  receive('a', 'shop');
  receive('b'); // version 0.1.0
  assert.deepEqual(peers.strangers, []);
  receive('c', 'blog');
  receive('d', 'blog');
  assert.deepEqual(peers.strangers, ['blog']);
  for (let i = 0; i < 10; i++) receive(`e${i}`, `app${i}`);
  assert.equal(peers.strangers.length, 5);
});
