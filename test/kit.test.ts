/**
 * The kit as an app uses it, alone: with processes and a real app it is in test/process/.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readConfig } from '../src/config/config.ts';
import type { Log } from '../src/log/log.ts';
import { WorkerKit } from '../src/worker/kit/kit.ts';

test('a handler that throws or rejects is logged, and every other handler of the event gets data of its own', async () => {
  const { kit, logged } = kitWith();
  const received: unknown[] = [];
  kit.on('news', () => {
    throw new Error('thrown');
  });
  kit.on('news', async () => {
    throw new Error('rejected');
  });
  for (const listener of [1, 2])
    kit.on('news', data => {
      received.push([listener, data]);
      (data as unknown[]).pop();
    });
  kit.deliver({ event: 'news', json: '[1,2]' });
  // No name is special, as 'error' is in Node's own emitters.
  kit.on('error', data => received.push(data));
  kit.deliver({ event: 'error', json: '"plain"' });
  kit.deliver({ event: 'nobody listens', json: 'null' });
  assert.deepEqual(received, [[1, [1]], [2, [1]], 'plain'], 'each handler has changed only its own data');
  await new Promise(setImmediate);
  assert.deepEqual(logged, ['broadcast.handler-failed news thrown', 'broadcast.handler-failed news rejected']);
});

test('a new handler gets the retained data of its event, unless that was cleared with null', async () => {
  const retained = new Map([
    ['kept', '{"n":1}'],
    ['gone', 'null'],
  ]);
  const { kit, logged } = kitWith(retained);
  const received: unknown[] = [];
  for (const name of ['kept', 'gone', 'unknown']) kit.on(name, data => received.push([name, data]));
  kit.on('kept', async () => {
    throw new Error('rejected');
  });
  assert.deepEqual(received, [], 'not before the code that subscribes has ended');
  await new Promise(setImmediate);
  kit.deliver({ event: 'kept', json: '{"n":2}' });
  assert.deepEqual(received, [
    ['kept', { n: 1 }],
    ['kept', { n: 2 }],
  ]);
  await new Promise(setImmediate);
  assert.equal(logged.length, 2);
});

test('off removes a handler once, also before it gets the retained data, and nothing else', async () => {
  const { kit } = kitWith(new Map([['kept', '1']]));
  const received: unknown[] = [];
  const one = (data: unknown) => received.push(['one', data]);
  const other = (data: unknown) => received.push(['other', data]);
  for (const handler of [one, other, one]) kit.on('news', handler);
  kit.off('news', one);
  kit.off('news', console.log);
  kit.off('unknown', one);
  kit.deliver({ event: 'news', json: '2' });
  assert.deepEqual(received.splice(0), [
    ['one', 2],
    ['other', 2],
  ]);
  kit.off('news', one);
  kit.off('news', one);
  kit.deliver({ event: 'news', json: '3' });
  assert.deepEqual(received.splice(0), [['other', 3]]);
  kit.on('kept', one);
  kit.off('kept', one);
  // A handler that removes itself and the next one: those of this event are called, and it has no effect on them.
  const once = () => {
    received.push('once');
    kit.off('last', once);
    kit.off('last', other);
  };
  kit.on('last', once);
  kit.on('last', other);
  kit.deliver({ event: 'last', json: '4' });
  kit.deliver({ event: 'last', json: '5' });
  await new Promise(setImmediate);
  assert.deepEqual(received, ['once', ['other', 4]]);
});

test('an invalid name or handler is an error at the call', () => {
  const { kit } = kitWith();
  assert.throws(
    () => kit.onUpgrade(undefined as never),
    /^TypeError: the listener of kit\.onUpgrade must be a function, got undefined$/,
  );
  const call = (method: 'on' | 'off', ...args: unknown[]) =>
    assert.throws(() => Reflect.apply(kit[method], kit, args), TypeError);
  for (const method of ['on', 'off'] as const) {
    for (const name of ['', 'x'.repeat(257), 'bosun:keys', 1, undefined, Symbol('name')]) call(method, name, () => undefined);
    for (const handler of [undefined, null, 'handler', {}]) call(method, 'news', handler);
  }
  assert.throws(
    () => Reflect.apply(kit.on, kit, ['news', null]),
    /^TypeError: the handler of event "news" must be a function, got null$/,
  );
  assert.throws(
    () => Reflect.apply(kit.on, kit, [Symbol('name'), call]),
    /^TypeError: the name of an event must have 1 to 256 characters, got/,
  );
});

function kitWith(retained = new Map<string, string>()): { kit: WorkerKit; logged: string[] } {
  const logged: string[] = [];
  const error = ({ event, name, err }: Record<string, unknown>) => logged.push(`${event} ${name} ${(err as Error).message}`);
  const options = {
    config: readConfig({}),
    log: () => ({ error }) as unknown as Log,
    workerId: 1,
    redis: undefined,
    sessionPlaces: undefined,
    sessionKeys: { current: [] },
    retained,
    send: () => undefined,
    reportHealth: () => undefined,
    onStoreError: () => undefined,
  };
  return { kit: new WorkerKit(options), logged };
}
