import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  broadcastOf,
  type Envelope,
  MAX_BROADCAST_BYTES,
  Receiver,
  type ReceiverOptions,
  Retained,
} from '../src/state/broadcast.ts';

const textOf = (origin: string, seq: number, more: Partial<Envelope> = {}) =>
  JSON.stringify({ origin, sender: 1, seq, event: 'news', json: String(seq), ...more });

const NONE = { received: 0, duplicates: 0, missed: 0, malformed: 0, unauthenticated: 0, stale: 0 };
const MINUTE_MS = 60_000;

const receiverOf = (options: Partial<ReceiverOptions> = {}) =>
  new Receiver('us', { isSigned: () => false, isDurable: false, now: () => 0, ...options });

describe('the receiver of a pod', () => {
  test('passes each event on once, in the order of its sender; what comes twice or late is dropped, what never came is counted', () => {
    const receiver = receiverOf();
    const passed = [7, 8, 8, 9, 12, 11, 7, 13].flatMap(seq => receiver.accept(textOf('them', seq))?.seq ?? []);
    assert.deepEqual(passed, [7, 8, 9, 12, 13]);
    assert.deepEqual(receiver.counts, { ...NONE, received: 5, duplicates: 3, missed: 2 });
  });

  test('counts for each pod apart, and hears nothing of its own', () => {
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

  test('drops what is no event', () => {
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

  test('drops a stamp that is malformed, or further in the future than clocks may differ', () => {
    const receiver = receiverOf({ now: () => 1_000_000 });
    const stampOf = (at: number) => `${String(at).padStart(15, '0')}-0123456789ab`;
    const stamps = ['zzzz', '', '999999999999999-0123456789ab', stampOf(1_000_001 + 5 * MINUTE_MS), `${stampOf(1)}\n`];
    for (const [index, stamp] of stamps.entries())
      assert.equal(receiver.accept(textOf('a', index + 1, { stamp })), undefined, stamp);
    assert.equal(receiver.counts.stale, stamps.length);
    assert.equal(receiver.accept(textOf('a', 9, { stamp: stampOf(1_000_000 + 5 * MINUTE_MS - 1) }))?.seq, 9);
  });

  test('drops replayed signed events: from before its start, too old, or of a forgotten pod', () => {
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
    assert.equal(durable.accept(late)?.seq, 2, 'it was kept for a pod that was cut off');
    for (let pod = 0; pod < 1000; pod++) durable.accept(textOf(`pod-${pod}`, 1, { at: 190 * MINUTE_MS }));
    assert.equal(durable.accept(late), undefined, 'its pod is forgotten');
    assert.equal(durable.counts.stale, 4);
  });

  test('a number far ahead does not count as a billion missed', () => {
    const receiver = receiverOf();
    receiver.accept(textOf('a', 1));
    assert.equal(receiver.accept(textOf('a', Number.MAX_SAFE_INTEGER)), undefined);
    assert.deepEqual(receiver.counts, { ...NONE, received: 1, malformed: 1 });
  });

  test('remembers a bounded number of pods, and forgets those that have been silent for longest', () => {
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
});

describe('an event', () => {
  test('is JSON, with null for no data', () => {
    assert.deepEqual(broadcastOf('news', { a: 1 }), { event: 'news', json: '{"a":1}' });
    assert.deepEqual(broadcastOf('news', undefined), { event: 'news', json: 'null' });
  });

  test('that can not travel is refused by name', () => {
    const circular: { self?: unknown } = {};
    circular.self = circular;
    assert.throws(() => broadcastOf('', 1), /the name of an event must have 1 to 256 characters, got ""/);
    assert.throws(() => broadcastOf('x'.repeat(257), 1), TypeError);
    assert.throws(() => broadcastOf('news', () => 1), /the data of event "news" must be JSON, got a function/);
    assert.throws(() => broadcastOf('news', circular), TypeError);
    assert.throws(
      () => broadcastOf('news', 'é'.repeat(MAX_BROADCAST_BYTES / 2)),
      new RangeError(`the data of event "news" must be at most 262144 bytes of JSON, got 262146`),
    );
    broadcastOf('news', 'x'.repeat(MAX_BROADCAST_BYTES - 2));
  });
});

describe('retained events', () => {
  test('the newest one is kept, in whatever order they come', () => {
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

  test('the same one is taken once, another name not at all', () => {
    const retained = new Retained(['config']);
    const event = { event: 'config', json: '1', stamp: retained.nextStamp('config') };
    assert.equal(retained.offer(event), true);
    assert.equal(retained.offer(event), false);
    assert.equal(retained.offer({ ...event, event: 'news' }), false);
  });

  test('a later one wins over that of a pod whose clock is ahead', () => {
    const ahead = new Retained(['config'], () => 9000);
    const late = new Retained(['config'], () => 1000);
    const first = { event: 'config', json: '"first"', stamp: ahead.nextStamp('config') };
    late.offer(first);
    const second = { event: 'config', json: '"second"', stamp: late.nextStamp('config') };
    assert.equal(ahead.offer(first), true);
    assert.equal(ahead.offer(second), true);
  });

  test('an event further in the future than clocks may differ does not win', () => {
    const retained = new Retained(['config'], () => 1000);
    for (const stamp of ['zzzz', '999999999999999-ffffffffffff', `${String(302_000).padStart(15, '0')}-0123456789ab`])
      assert.equal(retained.offer({ event: 'config', json: '"forged"', stamp }), false, stamp);
    assert.deepEqual(retained.forWorkers, []);
  });

  test('null takes it back: new workers begin without', () => {
    const retained = new Retained(['config']);
    retained.offer({ event: 'config', json: '1', stamp: retained.nextStamp('config') });
    retained.offer({ event: 'config', json: 'null', stamp: retained.nextStamp('config') });
    assert.deepEqual(retained.forWorkers, []);
  });
});
