import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { broadcastOf, type Envelope, Inbox, MOST_BROADCAST_BYTES } from '../src/state/broadcast.ts';
import { Retained } from '../src/state/retained.ts';

const textOf = (origin: string, seq: number, more: Partial<Envelope> = {}) =>
  JSON.stringify({ origin, sender: 1, seq, event: 'news', json: String(seq), ...more });

describe('the inbox of a pod', () => {
  test('passes each event on once, in the order of its sender; what comes twice or late is dropped, what never came is counted', () => {
    const inbox = new Inbox('us');
    const passed = [7, 8, 8, 9, 12, 11, 7, 13].flatMap(seq => inbox.accept(textOf('them', seq))?.seq ?? []);
    assert.deepEqual(passed, [7, 8, 9, 12, 13]);
    assert.deepEqual(inbox.counts, { received: 5, duplicates: 3, missed: 2, malformed: 0 });
  });

  test('counts for each pod apart, and hears nothing of its own', () => {
    const inbox = new Inbox('us');
    for (const [origin, seq] of [
      ['a', 1],
      ['b', 5],
      ['us', 1],
      ['a', 2],
      ['b', 6],
    ] as const)
      assert.equal(inbox.accept(textOf(origin, seq))?.origin, origin === 'us' ? undefined : origin);
    assert.deepEqual(inbox.counts, { received: 4, duplicates: 0, missed: 0, malformed: 0 });
  });

  test('drops what is no event', () => {
    const inbox = new Inbox('us');
    const nonsense = ['', '{', 'null', '[]', '7', '{"origin":"a"}', textOf('a', 1.5), textOf('a', 1, { event: 7 as never })];
    for (const text of nonsense) assert.equal(inbox.accept(text), undefined, text);
    assert.equal(inbox.counts.malformed, nonsense.length);
    assert.equal(inbox.counts.received, 0);
  });

  test('remembers a bounded number of pods, and forgets those that have been silent for longest', () => {
    const inbox = new Inbox('us');
    inbox.accept(textOf('busy', 1));
    for (let pod = 0; pod < 2000; pod++) {
      inbox.accept(textOf(`pod-${pod}`, 1));
      inbox.accept(textOf('busy', pod + 2));
    }
    assert.equal(inbox.accept(textOf('busy', 1)), undefined, 'known: a duplicate');
    assert.equal(inbox.accept(textOf('pod-0', 1))?.seq, 1, 'forgotten');
    assert.equal(inbox.counts.missed, 0);
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
      () => broadcastOf('news', 'é'.repeat(MOST_BROADCAST_BYTES / 2)),
      new RangeError(`the data of event "news" must be at most 262144 bytes of JSON, got 262146`),
    );
    broadcastOf('news', 'x'.repeat(MOST_BROADCAST_BYTES - 2));
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

  test('null takes it back: new workers begin without', () => {
    const retained = new Retained(['config']);
    retained.offer({ event: 'config', json: '1', stamp: retained.nextStamp('config') });
    retained.offer({ event: 'config', json: 'null', stamp: retained.nextStamp('config') });
    assert.deepEqual(retained.forWorkers, []);
  });
});
