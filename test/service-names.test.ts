/**
 * Which names in Redis a service uses, in a real Redis: each case of the table in docs/guide/sessions.md.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { readConfig } from '../src/config/config.ts';
import { serviceOf } from '../src/config/service.ts';
import { serviceNameFrom } from '../src/config/service-name.ts';
import { closeRedis, connectRedis, type RedisClient } from '../src/state/redis.ts';
import { keysBelow } from '../src/state/redis-keys.ts';
import { isSessionKey } from '../src/state/redis-names.ts';
import { recordName, ServiceNames } from '../src/state/service-names.ts';
import { connected } from './connected.ts';
import { LocalRedis, withRedis } from './process/redis.ts';

const folder = mkdtempSync(join(tmpdir(), 'service-'));
after(() => rmSync(folder, { recursive: true }));

/** An app's folder with this package.json. */
function appFolder(name: string, manifest: object | undefined): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  if (manifest !== undefined) writeFileSync(join(path, 'package.json'), JSON.stringify(manifest));
  return path;
}

describe('the name of a service', () => {
  for (const [name, expected] of [
    ['shop', 'shop'],
    ['@acme/shop', 'acme-shop'],
    ['Shop_2.x', 'Shop_2.x'],
    ['.~*shop*', 'shop'],
    ['none', 'app'],
    ['@/', 'app'],
    ['x'.repeat(63), 'x'.repeat(63)],
  ] as const)
    test(`of a package ${JSON.stringify(name)} is ${expected}`, () => assert.equal(serviceNameFrom(name), expected));

  test('of a long package is cut, and two of them differ', () => {
    const names = ['a', 'b'].map(end => serviceNameFrom(`${'x'.repeat(80)}${end}`));
    for (const name of names) assert.match(name, /^x{54}-[\da-f]{8}$/);
    assert.notEqual(names[0], names[1]);
  });

  test('is SERVICE_NAME, else that of the nearest package.json with a name, else that of the folder', () => {
    const path = appFolder('named', { name: '@acme/shop' });
    writeFileSync(join(appFolder('named/dist', undefined), 'package.json'), '{"type":"commonjs"}');
    const { name, app, isGiven, module } = serviceOf(undefined, path, 'dist/app.js');
    assert.deepEqual([name, app, isGiven, module], ['acme-shop', '@acme/shop', false, 'dist/app.js']);
    assert.deepEqual(serviceOf('other', path, 'dist/app.js').name, 'other');
    const nameless = serviceOf(undefined, appFolder('my app', undefined), 'app.js');
    assert.deepEqual([nameless.name, nameless.app], ['my-app', 'app.js']);
  });

  test('must be a label value of Kubernetes, and is refused otherwise', () => {
    for (const good of ['a', 'koa-bosun', 'A.b_c-9', 'x'.repeat(63)])
      assert.equal(readConfig({ SERVICE_NAME: good }).serviceName, good);
    for (const bad of ['none', '-a', 'a-', 'a b', 'a:b', '@a/b', 'a*', '{a}', 'ä', 'x'.repeat(64)])
      assert.throws(() => readConfig({ SERVICE_NAME: bad }), /SERVICE_NAME must be 1 to 63 letters, digits/, bad);
    assert.equal(readConfig({ SERVICE_NAME: '' }).serviceName, undefined);
    assert.equal(readConfig({ SERVICE_NAME_BEFORE: 'none' }).serviceNameBefore, 'none');
    assert.throws(
      () => readConfig({ SERVICE_NAME_BEFORE: 'a b' }),
      /SERVICE_NAME_BEFORE must be a name as in SERVICE_NAME, or "none"/,
    );
  });
});

describe('names in Redis', withRedis, () => {
  let redis: LocalRedis;
  let client: RedisClient;
  before(async () => {
    redis = await LocalRedis.start();
    client = (await connected(redis)).client;
  });
  after(async () => {
    await closeRedis(client);
    await redis.stop();
  });
  beforeEach(() => client.flushall());

  /** A process of a service, as it starts. */
  const processOf = (env: Record<string, string>, path = folder, module = 'app.js') => {
    const config = readConfig({ REDIS_URL: redis.url, ...env });
    return new ServiceNames(config, serviceOf(config.serviceName, path, module));
  };
  const rootsOf = (...start: Parameters<typeof processOf>) => processOf(...start).read(client);

  test('a fresh Redis: they begin with SERVICE_NAME, or the name of the package', async () => {
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'shop' }), { root: 'shop:koa:sess' });
    assert.deepEqual(await rootsOf({}, appFolder('blog', { name: '@acme/blog' })), { root: 'acme-blog:koa:sess' });
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'shop', SESSION_COOKIE: 'id' }), { root: 'shop:id' });
  });

  for (const [what, fill] of [
    ['session keys', () => client.set('koa:sess:keys', 'key')],
    ['a session', () => client.set('koa:sess:7f9c', '{}')],
    ['a retained event', () => client.hset('koa:sess:retained', 'configUpdate', 'x')],
  ] as const)
    test(`of version 0.1.0 with ${what} stay as they are, at each start`, async () => {
      for (let i = 0; i < 3000; i++) void client.set(`other:${i}`, '');
      await fill();
      for (const SERVICE_NAME of ['shop', 'shop', '']) assert.deepEqual(await rootsOf({ SERVICE_NAME }), { root: 'koa:sess' });
      // The sessions may expire.
      await client.del('koa:sess:keys', 'koa:sess:7f9c', 'koa:sess:retained');
      assert.deepEqual(await rootsOf({ SERVICE_NAME: 'shop' }), { root: 'koa:sess' });
    });

  test('of version 0.1.0 stay as they are while a pod of it runs, even without keys', async () => {
    const pod = connectRedis(readConfig({ REDIS_URL: redis.url }), 'test', () => undefined, { subscribes: true });
    assert.ok(pod);
    await new Promise(resolve => pod.once('ready', resolve));
    await pod.subscribe('koa:sess:fleet');
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'shop' }), { root: 'koa:sess' });
    await closeRedis(pod);
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'blog' }), { root: 'blog:koa:sess' });
  });

  test('SERVICE_NAME_BEFORE equal to SERVICE_NAME makes a new service beside one of 0.1.0', async () => {
    await client.set('koa:sess:keys', 'key');
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'new', SERVICE_NAME_BEFORE: 'new' }), { root: 'new:koa:sess' });
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'new' }), { root: 'new:koa:sess' });
  });

  test('during a change of the name writes go to both; without SERVICE_NAME_BEFORE it is undone', async () => {
    await client.set('koa:sess:keys', 'key');
    const changing = { SERVICE_NAME: 'shop', SERVICE_NAME_BEFORE: 'none' };
    assert.deepEqual(await rootsOf(changing), { root: 'koa:sess', copy: 'shop:koa:sess' });
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'shop' }), { root: 'koa:sess' });
    await recordName(client, 'shop:koa:sess', { name: 'none', isMoving: true });
    for (const env of [changing, { SERVICE_NAME: 'shop' }])
      assert.deepEqual(await rootsOf(env), { root: 'shop:koa:sess', copy: 'koa:sess' });
    await recordName(client, 'shop:koa:sess', { name: 'shop', isMoving: false });
    assert.deepEqual(await rootsOf(changing), { root: 'shop:koa:sess' });
  });

  test('a changed SERVICE_NAME keeps the names in use with SERVICE_NAME_BEFORE, and begins with none without', async () => {
    await client.set('koa:sess:keys', 'key');
    await rootsOf({ SERVICE_NAME: 'shop' });
    // `shop` has never had its own names.
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'store', SERVICE_NAME_BEFORE: 'shop' }), {
      root: 'koa:sess',
      copy: 'store:koa:sess',
    });
    await client.flushall();
    await rootsOf({ SERVICE_NAME: 'shop' });
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'store', SERVICE_NAME_BEFORE: 'wrong' }), {
      root: 'wrong:koa:sess',
      copy: 'store:koa:sess',
    });
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'store', SERVICE_NAME_BEFORE: 'shop' }), {
      root: 'shop:koa:sess',
      copy: 'store:koa:sess',
    });
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'mart' }), { root: 'mart:koa:sess' });
  });

  test('a Redis that has lost its data gets the record of the names in use again, and a process follows a new one', async () => {
    await client.set('koa:sess:keys', 'key');
    const names = processOf({ SERVICE_NAME: 'shop' });
    await names.read(client);
    await client.flushall();
    assert.deepEqual(await names.read(client), { root: 'koa:sess' });
    assert.deepEqual(await rootsOf({ SERVICE_NAME: 'shop' }), { root: 'koa:sess' });
    await recordName(client, 'shop:koa:sess', { name: 'shop', isMoving: false });
    assert.deepEqual(await names.read(client), { root: 'shop:koa:sess' });
    await client.flushall();
    await names.read(client);
    assert.equal(await client.get('shop:koa:sess:service'), 'shop');
  });

  test('a malformed record is refused', async () => {
    for (const value of ['', 'a b', 'moving:', 'x'.repeat(64)]) {
      await client.set('shop:koa:sess:service', value);
      await assert.rejects(rootsOf({ SERVICE_NAME: 'shop' }), /the record of the service in Redis must be a name/);
    }
  });

  test('a write in progress ends before new names are in use', async () => {
    const names = processOf({ SERVICE_NAME: 'shop', SERVICE_NAME_BEFORE: 'none' });
    await names.read(client);
    const writing = Promise.withResolvers<void>();
    const written = names.write(() => writing.promise);
    await recordName(client, 'shop:koa:sess', { name: 'none', isMoving: true });
    let hasRead = false;
    const reading = names.read(client).then(() => {
      hasRead = true;
    });
    while (names.roots.root !== 'shop:koa:sess') await new Promise(setImmediate);
    await new Promise(setImmediate);
    assert.equal(hasRead, false);
    writing.resolve();
    await Promise.all([written, reading]);
  });

  for (const [what, rules, expected] of [
    ['its own names', ['~shop:*', '&shop:*', '+@all'], 'shop:koa:sess'],
    ['the names of 0.1.0', ['~koa:sess:*', '&koa:sess:*', '+@all'], 'koa:sess'],
    ['the commands of 0.1.0', ['~*', '&*', '+@all', '-scan', '-pubsub'], 'koa:sess'],
  ] as const)
    test(`a user of Redis that may use only ${what} is not refused anything`, async () => {
      await client.acl('SETUSER', 'limited', 'on', '>secret', ...rules);
      const url = redis.url.replace('//', '//limited:secret@');
      const limited = connectRedis(readConfig({ REDIS_URL: url }), 'test', () => undefined);
      assert.ok(limited);
      await new Promise(resolve => limited.once('ready', resolve));
      try {
        assert.equal((await processOf({ SERVICE_NAME: 'shop' }).read(limited)).root, expected);
        const { redisRefusals } = await import('../src/state/redis-health.ts');
        assert.deepEqual(redisRefusals(), []);
      } finally {
        await closeRedis(limited);
        await client.acl('DELUSER', 'limited');
      }
    });

  const SHOP = { name: 'shop', version: '1.0.0', dependencies: { koa: '3' } };

  test('a renamed package keeps its name in Redis, also at later starts', async () => {
    const path = appFolder('renamed', SHOP);
    await rootsOf({}, path);
    appFolder('renamed', { ...SHOP, name: 'store', version: '1.1.0' });
    for (let i = 0; i < 2; i++) {
      const names = processOf({}, path);
      assert.deepEqual([await names.read(client), names.name], [{ root: 'shop:koa:sess' }, 'shop']);
    }
    appFolder('renamed', { ...SHOP, name: 'mart', version: '1.2.0' });
    assert.deepEqual(await rootsOf({}, path), { root: 'shop:koa:sess' }, 'renamed twice');
  });

  test('two packages with the same files in two folders, or with other files in one, are two apps', async () => {
    await rootsOf({}, appFolder('one', SHOP));
    assert.deepEqual(await rootsOf({}, appFolder('two', { ...SHOP, name: 'blog' })), { root: 'blog:koa:sess' });
    const path = appFolder('three', { ...SHOP, name: 'wiki' });
    await rootsOf({}, path);
    assert.deepEqual(await rootsOf({}, path, 'other.js'), { root: 'wiki:koa:sess' });
    appFolder('three', { ...SHOP, name: 'chat' });
    assert.deepEqual(await rootsOf({}, path, 'other.js'), { root: 'chat:koa:sess' });
  });

  test('in one folder of one host, a package with other dependencies is a renamed one only if no pod of the first runs', async () => {
    const path = appFolder('app', SHOP);
    await rootsOf({}, path);
    const pod = connectRedis(readConfig({ REDIS_URL: redis.url }), 'test', () => undefined, { subscribes: true });
    assert.ok(pod);
    await new Promise(resolve => pod.once('ready', resolve));
    await pod.subscribe('shop:koa:sess:fleet');
    appFolder('app', { name: 'blog', dependencies: {} });
    assert.deepEqual(await rootsOf({}, path), { root: 'blog:koa:sess' });
    await closeRedis(pod);
    appFolder('app', { name: 'store', dependencies: { hono: '4' } });
    assert.deepEqual(await rootsOf({}, path), { root: 'store:koa:sess' }, 'it could be either of two');
    await client.hdel('koa:sess:services', 'blog', 'store');
    assert.deepEqual(await rootsOf({}, path), { root: 'shop:koa:sess' });
  });

  test('malformed entries of the registry are ignored, and a full one stops renaming', async () => {
    await client.hset('koa:sess:services', { shop: 'x', blog: '{"name":"a b"}' });
    assert.deepEqual(await rootsOf({}, appFolder('full', SHOP)), { root: 'shop:koa:sess' });
    await client.hset('koa:sess:services', Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`n${i}`, 'x'])));
    assert.deepEqual(await rootsOf({}, appFolder('full', { ...SHOP, name: 'store' })), { root: 'store:koa:sess' });
  });

  test('sessions are distinguished from the other keys, and a cookie name is no pattern', async () => {
    const keys = ['keys', 'retained', 'retained:probe', 'service', 'services', 'journal', 'journal@2'].map(
      name => `shop:koa:sess:${name}`,
    );
    assert.deepEqual(
      keys.filter(key => isSessionKey(key, 'shop:koa:sess')),
      [],
    );
    assert.equal(isSessionKey('shop:koa:sess:keys2', 'shop:koa:sess'), true);
    await client.mset('a*c:1', '', 'abc:1', '');
    const found: string[] = [];
    for await (const batch of keysBelow(client, 'a*c')) found.push(...batch);
    assert.deepEqual(found, ['a*c:1']);
  });
});
