/**
 * A change of the service's name, with visitors who go on: pods of version 0.1.0 beside pods that write to both names, an undo, and the end.
 * Sessions, events and heartbeats go through a real Redis; the pods are event buses and session stores in this process.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, beforeEach, describe, test } from 'node:test';
import { readConfig } from '../src/config/config.ts';
import { migrateService } from '../src/control/migrate-service.ts';
import { Retained } from '../src/state/broadcast.ts';
import { EventBus, type Recipient } from '../src/state/event-bus.ts';
import { closeRedis, type RedisClient } from '../src/state/redis.ts';
import { ServiceNames } from '../src/state/service-names.ts';
import { copySession } from '../src/state/session-copy.ts';
import { openSessionStore, type SessionStore } from '../src/state/session-store.ts';
import { connected } from './connected.ts';
import { placesAt } from './places.ts';
import { LocalRedis, withRedis } from './process/redis.ts';
import { until } from './until.ts';

/** `make soak` has 1,000. */
const USERS = Number(process.env.SOAK_USERS ?? 100);
const DAY_MS = 86_400_000;
const CHANGING = { SERVICE_NAME: 'shop', SERVICE_NAME_BEFORE: 'none' };
const SHOP = { name: 'shop', isGiven: true, app: 'shop', directory: '/srv/shop', module: 'app.js' };

describe('a change of the name', withRedis, () => {
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

  const configOf = (env: Record<string, string>) => readConfig({ REDIS_URL: redis.url, ...env });

  /** The sessions as a pod of version 0.1.0 has them. */
  const oldPod = (env: Record<string, string> = {}): SessionStore =>
    openSessionStore(configOf(env), client, placesAt('koa:sess'));

  /** The sessions of a worker of this version. */
  async function worker(env: Record<string, string>): Promise<SessionStore & { names: ServiceNames }> {
    const names = new ServiceNames(configOf(env), SHOP);
    await names.read(client);
    return { ...openSessionStore(configOf(env), client, names), names };
  }

  /** A pod of this version: a primary's event bus and a worker. */
  async function pod(env: Record<string, string>) {
    const config = configOf(env);
    const store = await worker(env);
    const recipient: { isActive: true; keysRead: string | undefined; deliver: Recipient['deliver'] } = {
      isActive: true,
      keysRead: undefined,
      deliver: ({ json }) => {
        void store.names.read(client).then(() => {
          recipient.keysRead = json;
        });
        return true;
      },
    };
    const joined = Promise.withResolvers<void>();
    const bus: EventBus = new EventBus({
      config: () => config,
      service: SHOP,
      retained: new Retained([]),
      ownPod: () => ({
        ...{ version: '1', state: 'ready', generation: 1, workers: 1, wanted: 1, p99Ms: 0, requests: 0 },
        ...{ service: 'shop', app: 'shop', isChangingName: bus.names?.isChanging === true },
      }),
      workers: () => [recipient],
      onState: () => undefined,
      onConnected: joined.resolve,
    });
    await bus.open();
    after(() => bus.close());
    await joined.promise;
    return { store, bus, config };
  }

  class Shop {
    logouts = 0;
    revived = 0;
    visits = 0;
    /** Sessions that their users have ended. */
    readonly ended = new Set<string>();
    readonly users = Array.from({ length: USERS }, () => ({ id: '', visits: 0 }));

    /** These users come once, all at the same time, to any of these pods; a tenth logs out, while an old request of theirs is still to be written. */
    async open(pods: readonly SessionStore[], users = this.users): Promise<void> {
      const any = () => pods[Math.floor(Math.random() * pods.length)] as SessionStore;
      const ended: string[] = [];
      await Promise.all(
        users.map(async user => {
          const ctx = {};
          const store = any();
          if (user.id === '') Object.assign(user, { id: randomUUID(), visits: 0 });
          else {
            const found = (await store.get(user.id, DAY_MS, { ctx })) as { visits?: number } | null | undefined;
            if (found?.visits !== user.visits) this.logouts++;
          }
          await store.set(user.id, { visits: ++user.visits }, DAY_MS, { ctx });
          this.visits++;
          if (Math.random() >= 0.1) return;
          const late = { store: any(), ctx: {} };
          await late.store.get(user.id, DAY_MS, late);
          await any().destroy(user.id);
          await late.store.set(user.id, { visits: -1 }, DAY_MS, late);
          this.ended.add(user.id);
          ended.push(user.id);
          user.id = '';
        }),
      );
      await this.check(pods, ended);
    }

    /** Counts the ended sessions that one of these pods finds. */
    async check(pods: readonly SessionStore[], ended: Iterable<string> = this.ended): Promise<void> {
      for (const store of pods)
        await Promise.all(
          [...ended].map(async id => {
            if (await store.get(id, DAY_MS, { ctx: {} })) this.revived++;
          }),
        );
    }
  }

  for (const SESSION_WRITES of ['last', 'versioned'])
    test(`logs nobody out and revives no session: ${USERS} users, a mixed rollout, an undo, and the end (SESSION_WRITES=${SESSION_WRITES})`, async t => {
      const shop = new Shop();
      const writes = { SESSION_WRITES };
      const [first, second] = [oldPod(writes), oldPod(writes)];
      await shop.open([first, second]);
      const changing = await pod({ ...CHANGING, ...writes });
      await shop.open([first, second, changing.store]);
      const other = await pod({ ...CHANGING, ...writes });
      const both = [changing.store, other.store];
      await shop.open([first, ...both]);
      await shop.open(both);
      // The undo: to 0.1.0, and to this version without SERVICE_NAME_BEFORE.
      const undone = await worker({ SERVICE_NAME: 'shop', ...writes });
      await shop.open([...both, first, undone]);
      await shop.open([first, undone]);
      // A tombstone of 0.1.0 lasts an hour; what it has ended meanwhile must not be found where the first try has left it.
      for (const id of shop.ended) await client.del(`koa:sess:${id}`);
      await shop.check([first, undone, ...both]);
      await shop.open([...both, first]);

      let isMigrating = true;
      let rounds = 0;
      const open = async () => {
        for (; isMigrating; rounds++) await shop.open(both, shop.users.slice(0, 50));
      };
      const opened = open();
      const steps: string[] = [];
      await until(
        () => (changing.bus.peers.length === 2 && changing.bus.peers.every(({ isChangingName }) => isChangingName)) || undefined,
        () => JSON.stringify(changing.bus.peers),
      );
      const options = { keep: false, resendEveryMs: 100 };
      const migrated = await migrateService(changing.config, changing.bus, options, step => steps.push(step));
      isMigrating = false;
      await opened;
      assert.equal(migrated.service, 'shop');
      assert.ok(migrated.sessions >= USERS * 0.9 && rounds > 0, JSON.stringify({ migrated, rounds }));
      assert.equal(steps.length, 4);
      const done = await worker({ SERVICE_NAME: 'shop', ...writes });
      await shop.open([...both, done]);
      // Somebody rolls back to 0.1.0, too late: it finds no session, and this version none of its own.
      const [lost] = shop.users;
      assert.equal(await first.get(lost?.id ?? '', DAY_MS, { ctx: {} }), null);
      for (const id of shop.ended) await first.set(id, { visits: -1 }, DAY_MS, { ctx: {} });
      await shop.check([...both, done]);
      t.diagnostic(`${shop.visits} visits, ${shop.ended.size} logouts by users, ${rounds} rounds during the end`);
      assert.deepEqual({ logouts: shop.logouts, revived: shop.revived }, { logouts: 0, revived: 0 });
    });

  test('is ended only when every pod takes part, and only once', async () => {
    await client.set('koa:sess:keys', 'key');
    const quiet = () => undefined;
    const [changing, old] = [await pod(CHANGING), await pod({ SERVICE_NAME: 'shop' })];
    await until(
      () => changing.bus.peers.length === 2 || undefined,
      () => JSON.stringify(changing.bus.peers),
    );
    const migrate = ({ config, bus }: typeof old) => migrateService(config, bus, { keep: false, resendEveryMs: 100 }, quiet);
    await assert.rejects(
      migrate(changing),
      /still writes only to the old names: restart it with SERVICE_NAME=shop and SERVICE_NAME_BEFORE=none/,
    );
    await assert.rejects(migrate(old), /set SERVICE_NAME_BEFORE=none in every pod first/);
    assert.equal(await client.get('shop:koa:sess:service'), 'none', 'nothing has changed');
    await old.bus.close();
    await until(
      () => changing.bus.peers.length === 1 || undefined,
      () => JSON.stringify(changing.bus.peers),
    );
    await migrate(changing);
    assert.equal(await client.get('shop:koa:sess:keys'), 'key', 'the session keys are the same');
    assert.deepEqual(await client.keys('koa:sess*'), [], 'nothing is left of the old names');
    await assert.rejects(migrate(changing), /the names in Redis are those of shop already; remove SERVICE_NAME_BEFORE/);
  });

  test('with --keep parts two apps of one name: each has the sessions that there were, and ends its own', async () => {
    const stays = oldPod();
    await stays.set('id', { user: 'captain' }, DAY_MS, { ctx: {} });
    await client.lpush('koa:sess:of-another-program', 'x');
    const parts = await pod(CHANGING);
    await parts.store.set('late', { user: 'mate' }, DAY_MS, { ctx: {} });
    await migrateService(parts.config, parts.bus, { keep: true, resendEveryMs: 100 }, () => undefined);
    assert.deepEqual(await parts.store.get('id', DAY_MS, { ctx: {} }), { user: 'captain' });
    await parts.store.destroy('id');
    await parts.store.set('new', {}, DAY_MS, { ctx: {} });
    assert.deepEqual(await stays.get('id', DAY_MS, { ctx: {} }), { user: 'captain' });
    assert.deepEqual(await stays.get('late', DAY_MS, { ctx: {} }), { user: 'mate' });
    assert.equal(await stays.get('new', DAY_MS, { ctx: {} }), null);
  });

  test('copies a session with its lifetime, a destroyed one as such, and removes the copy of one that is gone', async () => {
    await client.set('a', '1', 'PX', 50_000);
    await copySession(client, 'a', 'b');
    assert.equal(await client.get('b'), '1');
    const ttl = await client.pttl('b');
    assert.ok(ttl > 49_000 && ttl <= 50_000, String(ttl));
    await client.set('a', '2');
    await copySession(client, 'a', 'b');
    assert.deepEqual([await client.get('b'), await client.pttl('b')], ['2', -1]);
    await client.del('a');
    await copySession(client, 'a', 'b');
    assert.equal(await client.exists('b'), 0);
    await client.set('a', 'destroyed', 'EX', 3600);
    await copySession(client, 'a', 'b');
    await client.set('a', 'revived');
    await copySession(client, 'a', 'b');
    assert.equal(await client.get('b'), 'destroyed');
  });

  test('copies of concurrent writes end with what was written last', async () => {
    for (let round = 0; round < 20; round++)
      await Promise.all(
        Array.from({ length: 8 }, async (_, index) => {
          await client.set('a', `${round}.${index}`);
          await copySession(client, 'a', 'b');
        }),
      );
    assert.equal(await client.get('b'), await client.get('a'));
  });
});
