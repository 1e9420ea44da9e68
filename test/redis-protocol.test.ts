/**
 * Replies that break the Redis protocol, against a server that sends them: the waiting command fails with the reason, the connection is replaced.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Redis } from 'ioredis';
import { readConfig } from '../src/config/config.ts';
import { closeRedis, connectRedis } from '../src/state/redis.ts';
import { limitReplies } from '../src/state/redis-protocol.ts';
import { APP_LIMITS } from '../src/state/reply-guard.ts';
import { array, bulk, FakeRedis } from './fake-redis.ts';
import { until } from './until.ts';

interface Client extends AsyncDisposable {
  redis: Redis;
  states: string[];
}

async function connect(fake: FakeRedis, env: Record<string, string> = {}): Promise<Client> {
  const states: string[] = [];
  const config = readConfig({ REDIS_URL: fake.url, ...env });
  const redis = connectRedis(config, 'test', (state, message) => states.push(`${state}: ${message}`)) as Redis;
  await until(
    () => states.some(state => state.startsWith('ready')) || undefined,
    () => String(states),
  );
  return { redis, states, [Symbol.asyncDispose]: () => closeRedis(redis) };
}

const isFaulty = ({ states }: Client, reason: string) =>
  until(
    () =>
      states.some(state => state.startsWith('faulty: ') && state.endsWith(`breaks the Redis protocol: ${reason}`)) || undefined,
    () => `${reason}: ${states}`,
  );
const slots = (from: string, to: string, port = ':6379') =>
  `*1\r\n*3\r\n:${from}\r\n:${to}\r\n*2\r\n${bulk('127.0.0.1')}${port}\r\n`;

const UNASKED: [string, string][] = [
  ['+OK\r\n', 'a reply without a command'],
  ['-ERR words\r\n', 'an error reply without a command: ERR words'],
  ['>1\r\n_\r\n', 'a push without a type'],
  [array(['message', 'a'], '>'), 'a push "message" of 2 elements'],
  [array(['pmessage', 'a', 'b'], '>'), 'a push "pmessage" of 3 elements'],
  [array(['message', 'a', 'b', 'c'], '>'), 'a push "message" of 4 elements'],
  [`>3\r\n${bulk('message')}${bulk('a')}_\r\n`, 'a malformed push "message"'],
  [`>3\r\n${bulk('subscribe')}${bulk('a')}:1\r\n`, 'an unexpected push "subscribe"'],
  [`>3\r\n${bulk('ssubscribe')}${bulk('a')}:-1\r\n`, 'a malformed push "ssubscribe"'],
  [`>3\r\n${bulk('subscribe')}_\r\n:1\r\n`, 'a malformed push "subscribe"'],
  [`>3\r\n${bulk('unsubscribe')}:7\r\n:1\r\n`, 'a malformed push "unsubscribe"'],
  [`>3\r\n${bulk('unsubscribe')}${bulk('a')}${bulk('x')}`, 'a malformed push "unsubscribe"'],
];

test('a reply or push that no command waits for, or that is malformed, has the connection replaced', async () => {
  const fake = await FakeRedis.start();
  for (const [bytes, reason] of UNASKED) {
    await using client = await connect(fake);
    const { made } = fake;
    fake.send('', bytes);
    await isFaulty(client, reason);
    await until(
      () => (fake.made > made && client.redis.status === 'ready') || undefined,
      () => `${reason}: no new connection`,
    );
    assert.equal(await client.redis.get('key'), null, 'the new connection works');
  }
});

test('a server may end a subscription by itself', async () => {
  const fake = await FakeRedis.start();
  await using client = await connect(fake);
  for (const type of ['unsubscribe', 'punsubscribe', 'sunsubscribe'])
    for (const channel of [bulk('a'), '_\r\n']) fake.send('', `>3\r\n${bulk(type)}${channel}:0\r\n`);
  assert.equal(await client.redis.get('key'), null);
  assert.equal(client.states.length, 1, String(client.states));
});

test('pushes that ioredis does not read are ignored', async () => {
  const fake = await FakeRedis.start();
  await using client = await connect(fake);
  fake.send('', `>2\r\n${bulk('invalidate')}*1\r\n${bulk('key')}`);
  assert.equal(await client.redis.get('key'), null);
  assert.equal(client.states.length, 1);
});

const ANSWERS: [string, string[], string, string][] = [
  ['get', ['key'], '-MOVED abc nowhere\r\n', 'a malformed redirection'],
  ['get', ['key'], '-MOVED 1 127.0.0.1:1 x\r\n', 'a malformed redirection'],
  ['get', ['key'], '-ASK 123456 127.0.0.1:1\r\n', 'a malformed redirection'],
  ['subscribe', ['a'], '+OK\r\n', 'expected the push "subscribe", got another reply'],
  ['unsubscribe', ['a'], '*0\r\n', 'expected the push "unsubscribe", got another reply'],
  ...['psubscribe', 'ssubscribe', 'punsubscribe', 'sunsubscribe'].map((name): [string, string[], string, string] => [
    name,
    ['a'],
    '+OK\r\n',
    `expected the push "${name}", got another reply`,
  ]),
  ['cluster', ['slots'], '+OK\r\n', 'malformed slots of a Cluster'],
  ['cluster', ['slots'], slots('0', '16384'), 'malformed slots of a Cluster'],
  ['cluster', ['slots'], slots('-1', '1'), 'malformed slots of a Cluster'],
  ['cluster', ['slots'], slots('0', '1', ':65536'), 'malformed slots of a Cluster'],
  ['cluster', ['slots'], slots('0', '1', bulk('1').trimEnd()), 'malformed slots of a Cluster'],
  ['cluster', ['SLOTS'], '*1\r\n*3\r\n:0\r\n:1\r\n:7\r\n', 'malformed slots of a Cluster'],
  ['cluster', ['slots'], '*1\r\n:7\r\n', 'malformed slots of a Cluster'],
];

test('a reply that its command cannot have fails that command and has the connection replaced', async () => {
  const fake = await FakeRedis.start();
  for (const [name, args, bytes, reason] of ANSWERS) {
    await using client = await connect(fake);
    fake.lie = ([command = '']) => (command.toLowerCase() === name ? bytes : undefined);
    await assert.rejects(client.redis.call(name, ...args), { name: 'ProtocolError', message: reason });
    fake.lie = () => undefined;
    await isFaulty(client, reason);
  }
});

test('valid redirections, slots, errors and subscriptions are passed on', async () => {
  const fake = await FakeRedis.start();
  await using client = await connect(fake);
  fake.lie = ([name = '']) =>
    name === 'cluster' ? slots('0', '16383') : name === 'get' ? '-MOVED 16383 host:65535\r\n' : undefined;
  assert.deepEqual(await client.redis.call('cluster', 'slots'), [[0, 16_383, ['127.0.0.1', 6379]]]);
  await assert.rejects(client.redis.get('key'), { name: 'ReplyError', message: 'MOVED 16383 host:65535' });
  fake.lie = ([name = '']) => (name === 'get' ? '-ERR MOVED words\r\n' : name === 'cluster' ? '+OK\r\n' : undefined);
  await assert.rejects(client.redis.get('key'), { name: 'ReplyError', message: 'ERR MOVED words' });
  assert.equal(await client.redis.call('cluster', 'info'), 'OK', 'another command of a Cluster');
  fake.lie = () => undefined;
  for (const isResp2 of [false, true]) {
    fake.isResp2 = isResp2;
    await using subscriber = await connect(fake);
    assert.equal(await subscriber.redis.subscribe('a', 'b'), 2);
    const received = new Promise(resolve => subscriber.redis.once('message', (...message) => resolve(message)));
    fake.publish('b', 'text');
    assert.deepEqual(await received, ['b', 'text'], `RESP${isResp2 ? 2 : 3}`);
    assert.equal(subscriber.states.length, 1);
  }
});

test('a message of a RESP2 subscription is checked as a push is', async () => {
  const fake = await FakeRedis.start();
  fake.isResp2 = true;
  await using client = await connect(fake);
  await client.redis.subscribe('a');
  fake.send('', array(['message', 'a']));
  await isFaulty(client, 'a push "message" of 2 elements');
});

test('an exception of a message listener is thrown unchanged, and the connection stays', async t => {
  const fake = await FakeRedis.start();
  await using client = await connect(fake);
  const thrown = new Promise(resolve => process.setUncaughtExceptionCaptureCallback(resolve));
  t.after(() => process.setUncaughtExceptionCaptureCallback(null));
  await client.redis.subscribe('a');
  const cause = new Error('a bug of the app');
  client.redis.on('message', () => {
    throw cause;
  });
  fake.publish('a', 'text');
  assert.equal(await thrown, cause);
  assert.equal(await client.redis.call('ping'), 'PONG');
  assert.deepEqual([client.states.length, fake.made], [1, 1]);
});

test('no error shows the password that a server quotes', async () => {
  const fake = await FakeRedis.start();
  fake.lie = ([name = '']) =>
    /^(hello|auth)$/i.test(name) ? "-ERR unknown command, with args beginning with: 'secret' secret\r\n" : undefined;
  const states: string[] = [];
  const client = connectRedis(readConfig({ REDIS_URL: fake.url, REDIS_PASSWORD: 'secret' }), 'test', (state, message) =>
    states.push(`${state}: ${message}`),
  ) as Redis;
  await until(
    () => states.length > 0 || undefined,
    () => 'no state',
  );
  await closeRedis(client);
  assert.doesNotMatch(states.join(), /secret/);
});

test('a refused login says which password is missing or was used', async () => {
  for (const [login, beside, refusal, remedy] of [
    [
      '',
      {},
      'NOAUTH Authentication required.',
      / refuses this client: NOAUTH Authentication required\. No password is set: REDIS_PASSWORD, or one in REDIS_URL$/,
    ],
    ['', {}, 'NOAUTH HELLO must be called with the client already authenticated', /authenticated\. No password is set: /],
    [
      ':wrong@',
      { REDIS_PASSWORD: 'right' },
      'WRONGPASS no such user.',
      /\. REDIS_URL has this password, and takes precedence over REDIS_PASSWORD$/,
    ],
    [':same@', { REDIS_PASSWORD: 'same' }, 'WRONGPASS no such user.', /WRONGPASS no such user\.$/],
  ] as const) {
    const fake = await FakeRedis.start();
    fake.lie = ([name = '']) => (/^(hello|auth|info|client)$/i.test(name) ? `-${refusal}\r\n` : undefined);
    const states: string[] = [];
    const url = fake.url.replace('redis://', `redis://${login}`);
    const client = connectRedis(readConfig({ REDIS_URL: url, ...beside }), 'test', (state, message) =>
      states.push(`${state}: ${message}`),
    ) as Redis;
    const refused = await until(
      () => states.find(state => state.startsWith('refused')),
      () => `no refusal: ${states}`,
    );
    await closeRedis(client);
    assert.match(refused, remedy);
  }
});

test('a reply above the limit of this process fails with the limit, and only new connections have a new one', async t => {
  const fake = await FakeRedis.start();
  await using before = await connect(fake);
  await before.redis.get('key');
  limitReplies({ maxBytes: 2000, maxElements: 10 });
  t.after(() => limitReplies(APP_LIMITS));
  await using after = await connect(fake);
  fake.lie = ([name = '']) => (name === 'get' ? bulk('x'.repeat(3000)) : undefined);
  assert.equal((await before.redis.get('key'))?.length, 3000);
  await assert.rejects(after.redis.get('key'), { message: 'a reply of more than 2000 bytes', isTooLarge: true });
});
