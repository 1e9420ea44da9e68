import assert from 'node:assert/strict';
import { createHmac, hkdfSync } from 'node:crypto';
import { test } from 'node:test';
import { generateSessionKey } from '../src/config/secrets.ts';
import type { RedisClient } from '../src/state/redis.ts';
import { addSessionKey, promoteSessionKey, Seal, shareSessionKeys } from '../src/state/session-keys.ts';
import { connected } from './connected.ts';
import { LocalRedis, withRedis } from './process/redis.ts';

const seal = new Seal(['new', 'old']);

test('a message between pods that is signed with any of the keys is accepted', () => {
  for (const text of ['', 'a', '{"a":"\\n"}', 'ü\n🔑'.repeat(1000)]) {
    assert.equal(seal.open('news', seal.sign('news', text)), text);
    assert.equal(new Seal(['newest', 'new']).open('news', seal.sign('news', text)), text, 'a key is added');
    assert.equal(seal.open('news', new Seal(['old']).sign('news', text)), text, 'a pod that has only the old one');
    assert.equal(new Seal(['old']).open('news', seal.sign('news', text)), undefined, 'the newest signs');
  }
});

test('a signed message is dropped if its text, signature or channel is changed', () => {
  const sealed = seal.sign('fleet', '{"a":1}');
  for (let at = 0; at < sealed.length - 1; at++) {
    const other = sealed.slice(0, at) + String.fromCharCode(sealed.charCodeAt(at) ^ 1) + sealed.slice(at + 1);
    assert.equal(seal.open('fleet', other), undefined, other);
  }
  assert.equal(seal.open('broadcast', sealed), undefined);
  assert.equal(seal.open('flee', seal.sign('fleet', '')), undefined);
  for (const forged of [
    '',
    '{"a":1}',
    '\n',
    `{"a":1}\n${'A'.repeat(43)}`,
    `{"a":1}\n${'!'.repeat(43)}`,
    sealed.slice(1),
    `${sealed} `,
  ])
    assert.equal(seal.open('fleet', forged), undefined, forged);
  // What is moved from the label into the text.
  assert.equal(seal.open('a', new Seal(['new']).sign('ab', 'c')?.replace(/^/, 'b')), undefined);
});

test('messages are signed with a key derived from the session key, not with that key', () => {
  const mac = seal.sign('fleet', 'x').split('\n')[1];
  assert.notEqual(mac, createHmac('sha256', 'new').update('5:fleetx').digest('base64url'));
  const derived = Buffer.from(hkdfSync('sha256', 'new', '', 'koa-bosun messages v1', 32));
  assert.equal(mac, createHmac('sha256', derived).update('5:fleetx').digest('base64url'));
});

test('without SESSION_KEYS messages are neither signed nor changed', () => {
  const open = new Seal(undefined);
  assert.equal(open.sign('fleet', 'x'), 'x');
  assert.equal(open.open('fleet', 'x'), 'x');
  assert.equal(open.isSigned, false);
});

const KOA_SESS = { root: 'koa:sess' };

/** GET and SET NX over a map. */
function fakeRedis(value?: unknown) {
  const values = new Map<string, unknown>(value === undefined ? [] : [['koa:sess:keys', value]]);
  const client = {
    values,
    get: async (key: string) => values.get(key) ?? null,
    set: async (key: string, text: string, mode: string) => {
      assert.equal(mode, 'NX');
      if (!values.has(key)) values.set(key, text);
    },
  };
  return { values, client: client as unknown as RedisClient };
}

test('a generated session key has 256 random bits, URL-safe', () => {
  const keys = Array.from({ length: 100 }, generateSessionKey);
  for (const key of keys) assert.match(key, /^[\w-]{43}$/);
  assert.equal(new Set(keys).size, 100);
});

test('the first worker stores its session keys, every other one takes those', async () => {
  const { client, values } = fakeRedis();
  const [first, second] = [{ current: [] as string[] }, { current: ['own'] }];
  await shareSessionKeys(client, KOA_SESS, first);
  assert.match(first.current.join(), /^[\w-]{43}$/);
  assert.deepEqual([...values], [['koa:sess:keys', first.current[0]]]);
  await shareSessionKeys(client, KOA_SESS, second);
  assert.deepEqual(second.current, first.current);
});

test('a Redis that has lost its data gets the session keys that are in use', async () => {
  const { client, values } = fakeRedis();
  const keys = { current: ['new', 'old'] };
  await shareSessionKeys(client, KOA_SESS, keys);
  assert.deepEqual([values.get('koa:sess:keys'), keys.current], ['new,old', ['new', 'old']]);
});

test('session keys that another client has stored are not trusted: 1 to 20 keys of 1 to 256 printable characters', async () => {
  const longest = Array(20).fill('x'.repeat(256)).join();
  for (const good of ['a', 'ä', longest]) {
    const keys = { current: [] as string[] };
    await shareSessionKeys(fakeRedis(good).client, KOA_SESS, keys);
    assert.equal(keys.current.join(), good);
  }
  const bad = [
    'a,',
    ',a',
    'a b',
    ' a',
    'a ',
    'a\n',
    '\u202ea',
    'a\u202e',
    'x'.repeat(257),
    `${longest},a`,
    7,
    ['a'],
    `${','.repeat(19)}a`,
  ];
  for (const value of [...bad, Array(21).fill('a').join()]) {
    const keys = { current: ['ours'] };
    await assert.rejects(shareSessionKeys(fakeRedis(value).client, KOA_SESS, keys), {
      message: 'the session keys in Redis must be 1 to 20 valid keys, got another value',
    });
    assert.deepEqual(keys.current, ['ours']);
  }
});

test('session keys stay as they are if Redis loses them in between', async () => {
  const { client } = fakeRedis();
  const keys = { current: ['ours'] };
  await shareSessionKeys(
    { ...client, set: async () => undefined, get: async () => null } as unknown as RedisClient,
    KOA_SESS,
    keys,
  );
  assert.deepEqual(keys.current, ['ours']);
});

test(
  'a rotation adds a key that verifies, then makes it the one that signs, and keeps the nine previous ones',
  withRedis,
  async () => {
    const redis = await LocalRedis.start();
    const { client, close } = await connected(redis);
    try {
      await assert.rejects(addSessionKey(client, 'koa:sess'), {
        message: 'there are no session keys in Redis yet: no worker has been ready',
      });
      const old = Array.from({ length: 10 }, (_, index) => `key${index}`);
      await client.set('koa:sess:keys', old.join());
      const added = await addSessionKey(client, 'koa:sess');
      assert.match(added, /^[\w-]{43}$/);
      assert.equal(await client.get('koa:sess:keys'), [...old, added].join());
      assert.equal(await promoteSessionKey(client, 'koa:sess', added), 10);
      assert.equal(await client.get('koa:sess:keys'), [added, ...old.slice(0, 9)].join());
    } finally {
      await close();
      await redis.stop();
    }
  },
);

test('a text shorter than a signature is not signed', () => {
  assert.equal(new Seal(['key']).isSigned, true);
  for (const text of ['', 'x', 'x'.repeat(43)]) assert.equal(seal.open('fleet', text), undefined);
});
