import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  broadcastOf,
  type Envelope,
  MAX_BROADCAST_BYTES,
  Receiver,
  type ReceiverOptions,
  Retained,
  STAMP_LENGTH,
} from '../src/state/broadcast.ts';

const textOf = (origin: string, seq: number, more: Partial<Envelope> = {}) =>
  JSON.stringify({ origin, sender: 1, seq, event: 'news', json: String(seq), ...more });

const NONE = { received: 0, duplicates: 0, missed: 0, malformed: 0, unauthenticated: 0, stale: 0 };
const MINUTE_MS = 60_000;

const receiverOf = (options: Partial<ReceiverOptions> = {}) =>
  new Receiver('us', { isSigned: () => false, isDurable: false, now: () => 0, ...options });

test('events of another pod are delivered once and in its order; duplicates and late ones are dropped, missing ones are counted', () => {
  const receiver = receiverOf();
  const passed = [7, 8, 8, 9, 12, 11, 7, 13].flatMap(seq => receiver.accept(textOf('them', seq))?.seq ?? []);
  assert.deepEqual(passed, [7, 8, 9, 12, 13]);
  assert.deepEqual(receiver.counts, { ...NONE, received: 5, duplicates: 3, missed: 2 });
});

test('the order of each pod is checked separately, and events of our own are ignored', () => {
  const receiver = receiverOf();
  for (const [origin, seq] of [
    ['a', 1],
    ['b', 5],
    ['us', 1],
    ['a', 2],
    ['b', 6],
  ] as const)
    assert.equal(receiver.accept(textOf(origin, seq))?.origin, origin === 'us' ? undefined : origin);
  assert.deepEqual(receiver.counts, { ...NONE, received: 4 });
});

test('malformed events are dropped and counted', () => {
  const receiver = receiverOf();
  const nonsense = [
    ...['', '{', 'null', '[]', '7', '{"origin":"a"}', textOf('a', 1.5), textOf('a', 1, { event: 7 as never })],
    ...[textOf('a', 0), textOf('a', -1), textOf('a', 2 ** 53), textOf('a\n', 1), textOf('a'.repeat(400), 1), textOf('', 1)],
    ...[textOf('a', 1, { event: 'bosun:other' }), textOf('a', 1, { event: '' }), textOf('a', 1, { event: 'x'.repeat(300) })],
    ...[textOf('a', 1, { json: '{' }), textOf('a', 1, { json: `"${'x'.repeat(MAX_BROADCAST_BYTES)}"` })],
    ...[textOf('a', 1, { sender: -1 }), textOf('a', 1, { stamp: 7 as never }), textOf('a', 1, { at: 'now' as never })],
  ];
  for (const text of nonsense) assert.equal(receiver.accept(text), undefined, text);
  assert.equal(receiver.counts.malformed, nonsense.length);
  assert.equal(receiver.counts.received, 0);
});

test('an event whose stamp is malformed, or further in the future than clocks may differ, is dropped', () => {
  const receiver = receiverOf({ now: () => 1_000_000 });
  const stampOf = (at: number) => `${String(at).padStart(15, '0')}-0123456789ab`;
  const stamps = ['zzzz', '', '999999999999999-0123456789ab', stampOf(1_000_001 + 5 * MINUTE_MS), `${stampOf(1)}\n`];
  for (const [index, stamp] of stamps.entries())
    assert.equal(receiver.accept(textOf('a', index + 1, { stamp })), undefined, stamp);
  assert.equal(receiver.counts.stale, stamps.length);
  assert.equal(receiver.accept(textOf('a', 9, { stamp: stampOf(1_000_000 + 5 * MINUTE_MS - 1) }))?.seq, 9);
});

test('replayed signed events are dropped: from before the start, too old, or of a forgotten pod', () => {
  let now = 100 * MINUTE_MS;
  const options = { isSigned: () => true, now: () => now };
  const [atOnce, durable] = [receiverOf(options), receiverOf({ ...options, isDurable: true })];
  const old = textOf('a', 1, { at: 94 * MINUTE_MS });
  for (const receiver of [atOnce, durable]) assert.equal(receiver.accept(old), undefined);
  for (const receiver of [atOnce, durable]) assert.equal(receiver.accept(textOf('a', 2)), undefined, 'without a time');
  now = 200 * MINUTE_MS;
  for (const receiver of [atOnce, durable])
    assert.equal(receiver.accept(textOf('a', 2, { at: 206 * MINUTE_MS })), undefined, 'from the future');
  const late = textOf('a', 2, { at: 110 * MINUTE_MS });
  assert.equal(atOnce.accept(late), undefined);
  assert.equal(durable.accept(late)?.seq, 2, 'Redis kept it for a pod that was disconnected');
  for (let pod = 0; pod < 1000; pod++) durable.accept(textOf(`pod-${pod}`, 1, { at: 190 * MINUTE_MS }));
  assert.equal(durable.accept(late), undefined, 'its pod is forgotten');
  assert.equal(durable.counts.stale, 4);
});

test('an event with a number far ahead is malformed, and does not count as a billion missed ones', () => {
  const receiver = receiverOf();
  receiver.accept(textOf('a', 1));
  assert.equal(receiver.accept(textOf('a', Number.MAX_SAFE_INTEGER)), undefined);
  assert.deepEqual(receiver.counts, { ...NONE, received: 1, malformed: 1 });
});

test('a bounded number of pods is remembered, and a busy one is never forgotten', () => {
  const receiver = receiverOf();
  receiver.accept(textOf('busy', 1));
  for (let pod = 0; pod < 2000; pod++) {
    receiver.accept(textOf(`pod-${pod}`, 1));
    receiver.accept(textOf('busy', pod + 2));
  }
  assert.equal(receiver.accept(textOf('busy', 1)), undefined, 'known: a duplicate');
  assert.equal(receiver.accept(textOf('pod-0', 1))?.seq, 1, 'forgotten');
  assert.equal(receiver.counts.missed, 0);
});

test('the data of an event is JSON, with null for no data', () => {
  assert.deepEqual(broadcastOf('news', { a: 1 }), { event: 'news', json: '{"a":1}' });
  assert.deepEqual(broadcastOf('news', undefined), { event: 'news', json: 'null' });
});

test('an event that cannot be sent is refused with its name and the reason', () => {
  const circular: { self?: unknown } = {};
  circular.self = circular;
  assert.throws(() => broadcastOf('', 1), /the name of an event must have 1 to 256 characters, got ""/);
  assert.throws(() => broadcastOf('x'.repeat(257), 1), TypeError);
  assert.throws(() => broadcastOf('news', () => 1), /the data of event "news" must be JSON, got a function/);
  assert.throws(() => broadcastOf('news', circular), /^TypeError: the data of event "news" must be JSON: Converting circular/);
  assert.throws(() => broadcastOf('news', 1n), /^TypeError: the data of event "news" must be JSON: .*BigInt/);
  assert.throws(
    () => broadcastOf('news', 'é'.repeat(MAX_BROADCAST_BYTES / 2)),
    new RangeError(`the data of event "news" must be at most 262144 bytes of JSON, got 262146`),
  );
  broadcastOf('news', 'x'.repeat(MAX_BROADCAST_BYTES - 2));
});

const MAX = MAX_BROADCAST_BYTES;

test('the name of an event has 1 to 256 characters and does not begin with "bosun:"', () => {
  broadcastOf('x'.repeat(256), 1);
  assert.throws(() => broadcastOf(7 as never, 1), /the name of an event must have 1 to 256 characters, got 7/);
  assert.throws(() => broadcastOf('bosun:keys', 1), /the name of an event must not begin with "bosun:", got "bosun:keys"/);
  broadcastOf('not bosun:', 1);
});

test('an event of the maximum size in characters that JSON escapes is accepted from another pod, a longer text is not', () => {
  const receiver = receiverOf();
  const json = `"${'\\"'.repeat(MAX / 2 - 1)}"`;
  assert.equal(json.length, MAX);
  assert.equal(receiver.accept(textOf('a', 1, { json }))?.seq, 1);
  const text = textOf('a', 2);
  const padded = (length: number) => `${text.slice(0, -1)}${' '.repeat(length - text.length)}}`;
  assert.equal(receiver.accept(padded(2 * MAX + 2049)), undefined);
  assert.equal(receiver.accept(padded(2 * MAX + 2048))?.seq, 2);
});

test('an origin is a host name and digits, and nothing else', () => {
  const receiver = receiverOf();
  for (const origin of ['!host:1', 'host:1!', 'ho st:1']) assert.equal(receiver.accept(textOf(origin, 1)), undefined, origin);
  assert.equal(receiver.accept(textOf('host-1.example:0af', 1))?.seq, 1);
});

test('at most a billion events are counted as missed at once', () => {
  const receiver = receiverOf();
  receiver.accept(textOf('a', 1));
  assert.equal(receiver.accept(textOf('a', 1 + 1e9 + 1)), undefined);
  assert.equal(receiver.accept(textOf('a', 1 + 1e9))?.seq, 1 + 1e9);
  assert.deepEqual([receiver.counts.missed, receiver.counts.malformed], [1e9 - 1, 1]);
});

test('the clocks of two pods may differ by five minutes, not more', () => {
  const now = 100 * MINUTE_MS;
  const receiver = receiverOf({ isSigned: () => true, now: () => now });
  const accepted = (at: number) => receiver.accept(textOf(`at-${at}`, 1, { at })) !== undefined;
  assert.deepEqual(
    [-1, 0].map(ms => accepted(now - 5 * MINUTE_MS + ms)),
    [false, true],
  );
  assert.deepEqual(
    [0, 1].map(ms => accepted(now + 5 * MINUTE_MS + ms)),
    [true, false],
  );
  const retained = new Retained(['config'], () => now);
  const stampAt = (at: number, end: string) => `${String(at).padStart(15, '0')}-${end}`;
  const offer = (stamp: string) => retained.offer({ event: 'config', json: '1', stamp });
  assert.equal(offer(stampAt(now + 5 * MINUTE_MS + 1, '000000000000')), false);
  assert.equal(offer(`0${stampAt(now, '000000000000')}`), false);
  assert.equal(offer(stampAt(now + 5 * MINUTE_MS, 'ffffffffffff')), true);
  assert.equal(stampAt(now, '000000000000').length, STAMP_LENGTH);
});

test('of the remembered pods those that have sent nothing for longest are forgotten first', () => {
  const receiver = receiverOf();
  for (let pod = 0; pod < 1000; pod++) receiver.accept(textOf(`pod-${pod}`, 1));
  receiver.accept(textOf('pod-0', 2));
  receiver.accept(textOf('one-more', 1));
  assert.equal(receiver.accept(textOf('pod-0', 2)), undefined, 'remembered');
  assert.equal(receiver.accept(textOf('pod-1', 1))?.seq, 1, 'forgotten');
  for (let pod = 3; pod < 1000; pod++) assert.equal(receiver.accept(textOf(`pod-${pod}`, 1)), undefined, `pod-${pod}`);
});

test('for any order of arrival each event is delivered once and in its sender’s order', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.integer({ min: 1, max: 30 }))), arrivals => {
      const receiver = receiverOf();
      const delivered: Record<string, number[]> = { a: [], b: [], c: [] };
      for (const [origin, seq] of arrivals) {
        const envelope = receiver.accept(textOf(origin, seq));
        if (envelope) delivered[envelope.origin]?.push(envelope.seq);
      }
      const { received, duplicates, missed } = receiver.counts;
      assert.equal(received + duplicates, arrivals.length);
      let gaps = 0;
      for (const seqs of Object.values(delivered)) {
        assert.deepEqual(
          seqs,
          [...new Set(seqs)].sort((x, y) => x - y),
        );
        if (seqs.length > 0) gaps += (seqs.at(-1) ?? 0) - (seqs[0] ?? 0) + 1 - seqs.length;
      }
      assert.equal(missed, gaps);
    }),
  );
});

test('of retained events the newest one is kept, in whatever order they arrive', () => {
  const events = [1000, 3000, 2000].map(at => {
    const sender = new Retained(['config'], () => at);
    return { event: 'config', json: String(at), stamp: sender.nextStamp('config') };
  });
  for (const order of [events, events.toReversed()]) {
    const retained = new Retained(['config']);
    for (const event of order) retained.offer(event);
    assert.deepEqual(retained.forWorkers, [{ event: 'config', json: '3000' }]);
  }
});

test('a retained event is accepted once, and an event of another name is not retained', () => {
  const retained = new Retained(['config']);
  const event = { event: 'config', json: '1', stamp: retained.nextStamp('config') };
  assert.equal(retained.offer(event), true);
  assert.equal(retained.offer(event), false);
  assert.equal(retained.offer({ ...event, event: 'news' }), false);
});

test('a later retained event wins over an earlier one of a pod whose clock is ahead', () => {
  const ahead = new Retained(['config'], () => 9000);
  const late = new Retained(['config'], () => 1000);
  const first = { event: 'config', json: '"first"', stamp: ahead.nextStamp('config') };
  late.offer(first);
  const second = { event: 'config', json: '"second"', stamp: late.nextStamp('config') };
  assert.equal(ahead.offer(first), true);
  assert.equal(ahead.offer(second), true);
});

test('a retained event further in the future than clocks may differ is not accepted', () => {
  const retained = new Retained(['config'], () => 1000);
  for (const stamp of ['zzzz', '999999999999999-ffffffffffff', `${String(302_000).padStart(15, '0')}-0123456789ab`])
    assert.equal(retained.offer({ event: 'config', json: '"forged"', stamp }), false, stamp);
  assert.deepEqual(retained.forWorkers, []);
});

test('null clears a retained event: new workers start without it', () => {
  const retained = new Retained(['config']);
  retained.offer({ event: 'config', json: '1', stamp: retained.nextStamp('config') });
  retained.offer({ event: 'config', json: 'null', stamp: retained.nextStamp('config') });
  assert.deepEqual(retained.forWorkers, []);
});
